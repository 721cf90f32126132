// Package cli is the command line. Each command has one file, and is a thin layer over the
// package that does the work. Results go to stdout, everything else to stderr.
//
// A new command is a file with a function that returns a [cobra.Command], which is added to
// the list in [New]. Package command has what all commands share: help, the texts of errors,
// exit codes and completion. Start reading with [Run]; runAgent in run.go wires a running
// agent together.
package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"kcagent/cli/client"
	"kcagent/cli/command"
)

type streams struct{ out, err io.Writer }

func streamsOf(c *cobra.Command) streams { return streams{c.OutOrStdout(), c.ErrOrStderr()} }

// Run runs the command that args name and returns the exit code: 0 success, 1 failure, 2
// invalid usage or configuration. plan has its own.
func Run(args []string, stdout, stderr io.Writer) int {
	return command.Execute(New(), args, stdout, stderr, command.Options{Explain: func(name string) string { return otherWords[name] }})
}

// New returns the tree of the commands.
func New() *cobra.Command {
	root := &cobra.Command{
		Use:   "kcagent COMMAND",
		Short: "kcagent runs the Kafka consumers that one YAML file declares.",
		Long: `
"kcagent help COMMAND" and "kcagent COMMAND --help" print the flags of a command with an
example. Exit codes: 0 success, 1 failure, 2 invalid usage or configuration; plan has its
own. Results go to stdout, everything else to stderr.`,
		Args: command.NoArgs,
	}
	showVersion := root.Flags().BoolP("version", "v", false, "print the version")
	root.RunE = func(c *cobra.Command, _ []string) error {
		if *showVersion {
			return printVersion(c.OutOrStdout())
		}
		command.Overview(c.ErrOrStderr(), c)
		return command.Reported(command.Usage)
	}
	root.AddCommand(newRun(), newValidate(), newPlan(), newStatus(), newTop(), newSchema(), newDemo(),
		newVerify(), newHealth(), newVersion())
	return root
}

// otherWords are commands of other programs, each with the equivalent in kcagent.
var otherWords = map[string]string{
	"start":     "set `state: running` in the file; the running agent applies the edit",
	"resume":    "set `state: running` in the file; the running agent applies the edit",
	"pause":     "set `state: paused` in the file; the running agent applies the edit",
	"stop":      "set `state: stopped` in the file; the running agent applies the edit",
	"create":    "add an entry to the file; the running agent applies the edit",
	"add":       "add an entry to the file; the running agent applies the edit",
	"terminate": "delete the entry from the file; the running agent applies the edit",
	"delete":    "delete the entry from the file; the running agent applies the edit",
	"remove":    "delete the entry from the file; the running agent applies the edit",
	"reload":    "the running agent applies each edit of the file by itself; SIGHUP makes it read the file at once",
	"apply":     "the running agent applies each edit of the file by itself; kcagent plan shows what an edit would change",
	"diff":      "kcagent plan shows what a file would change",
	"check":     "kcagent validate finds the problems of a file",
	"lint":      "kcagent validate finds the problems of a file",
	"list":      "kcagent status shows the consumers of a running agent",
	"ps":        "kcagent status shows the consumers of a running agent",
}

// defaultConfig is the configuration file if the user names none.
const defaultConfig = "consumers.yaml"

// configFlag adds --config.
func configFlag(c *cobra.Command, file *string, usage string) {
	c.Flags().StringVar(file, "config", defaultConfig, usage)
	command.CompleteYAML(c, "config")
}

// checkExists returns an error if the configuration file does not exist.
func checkExists(file string) error {
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		return nil
	}
	if file == defaultConfig {
		return command.Usagef("read %s: file not found; name yours with --config, or try kcagent demo", file)
	}
	return command.Usagef("read %s: file not found; check the path", file)
}

// outputFlag adds --output.
func outputFlag(c *cobra.Command) *string {
	return command.Choice(c, "output", "text", "format of the output", "text", "json")
}

// urlVariable is the environment variable that replaces the default of --url. Unlike a flag,
// it does not show a password to other users of the host.
const urlVariable = "KCAGENT_URL"

// urlFlag adds --url, with more text for its help.
func urlFlag(c *cobra.Command, more string) *string {
	address := c.Flags().String("url", "http://127.0.0.1:8080", "`address` of the agent, or set "+urlVariable+more)
	command.CompleteNothing(c, "url")
	c.PreRunE = func(*cobra.Command, []string) error {
		value := os.Getenv(urlVariable)
		if value == "" || c.Flags().Changed("url") {
			return nil
		}
		if _, err := newClient(value); err != nil {
			return command.Usagef("read KCAGENT_URL: %w", err)
		}
		*address = value
		return nil
	}
	return address
}

// newClient returns a client of the agent that --url names.
func newClient(address string) (client.Client, error) {
	c, err := client.New(address)
	if err != nil {
		return client.Client{}, command.Usagef("%w", err)
	}
	return c, nil
}

// coloured reports whether w is a terminal that supports colours
// (https://no-color.org).
func coloured(w io.Writer) bool { return isTerminal(w) && os.Getenv("NO_COLOR") == "" }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

func count(n int, noun string) string { return fmt.Sprintf("%d %s", n, plural(n, noun)) }

// cause returns the cause of an error of a file, without the operation and the path that the
// message names already.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}
