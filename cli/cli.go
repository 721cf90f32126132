// Package cli is the command line. Each command has one file, and is a thin layer over the
// package that does the work. Results go to stdout, everything else to stderr.
//
// A new command is a file with a command value, which is added to commands in this file.
// Start reading with [Run]; runAgent in run.go wires a running agent together.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"kcagent/cli/client"
	"kcagent/config"
)

// Exit codes.
const (
	exitSuccess = 0
	exitFailure = 1
	exitUsage   = 2 // invalid usage or configuration
)

// A command is one word of the command line. Its texts are what --help prints, and
// docs/cli.md is made of that.
type command struct {
	name    string
	args    string // after the flags; "" if the command takes flags alone
	summary string // one line, for the list of commands
	details string // what else a user has to know, with the form of the output; "" if nothing
	exits   []exit // the exit codes, if they are not the usual ones
	example string
	run     func(ctx context.Context, io streams, flags *flag.FlagSet, args []string) error
}

// An exit is one exit code of a command.
type exit struct {
	code    int
	meaning string
}

var usualExits = []exit{
	{exitSuccess, "success"},
	{exitFailure, "failure"},
	{exitUsage, "invalid usage or configuration"},
}

type streams struct{ out, err io.Writer }

func commands() []command {
	return []command{
		runCommand, validateCommand, planCommand, statusCommand, schemaCommand, demoCommand, verifyCommand, healthCommand, versionCommand,
	}
}

// A usageError is one for which the user has to change the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// A reportedError is a failure that the command has printed already.
type reportedError struct{ code int }

func (e reportedError) Error() string { return fmt.Sprintf("exit %d", e.code) }

// Run runs the command that args name and returns the exit code: 0 success, 1 failure, 2
// invalid usage or configuration. plan has its own.
func Run(args []string, stdout, stderr io.Writer) int {
	io := streams{stdout, stderr}
	if len(args) == 0 {
		usage(stderr)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		usage(stdout)
		return exitSuccess
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.exec(io, args[1:])
		}
	}
	fmt.Fprintf(stderr, "kcagent: unknown command %q; see kcagent help\n", args[0])
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, "kcagent runs the Kafka consumers that one YAML file declares.\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-9s  %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\nEach command has --help with an example. Exit codes: 0 success, 1 failure, 2 invalid usage or\nconfiguration; plan has its own. Results go to stdout, everything else to stderr.\n")
}

func (c command) exec(io streams, args []string) int {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.err)
	flags.Usage = func() { c.help(flags) }
	ctx, stop := signals(io.err)
	defer stop()
	return exitCode(c.name, io.err, c.run(ctx, io, flags, args))
}

// help prints everything about a command.
func (c command) help(flags *flag.FlagSet) {
	w := flags.Output()
	usage := "kcagent " + c.name
	if hasFlags(flags) {
		usage += " [flags]"
	}
	if c.args != "" {
		usage += " " + c.args
	}
	fmt.Fprintf(w, "kcagent %s: %s\n\nUsage:\n  %s\n", c.name, c.summary, usage)
	if c.details != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(c.details))
	}
	printFlags(flags)
	fmt.Fprint(w, "\nExit codes:\n")
	exits := c.exits
	if exits == nil {
		exits = usualExits
	}
	for _, e := range exits {
		fmt.Fprintf(w, "  %d  %s\n", e.code, e.meaning)
	}
	fmt.Fprintf(w, "\nExample:\n  %s\n", c.example)
}

func hasFlags(flags *flag.FlagSet) (has bool) {
	flags.VisitAll(func(*flag.Flag) { has = true })
	return has
}

// printFlags lists the flags as they are written here, with two dashes.
func printFlags(flags *flag.FlagSet) {
	var names, texts []string
	width := 0
	flags.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		name := strings.TrimRight("--"+f.Name+" "+value, " ")
		if f.DefValue != "" {
			text += " (default " + f.DefValue + ")"
		}
		names, texts, width = append(names, name), append(texts, text), max(width, len(name))
	})
	for i, name := range names {
		if i == 0 {
			fmt.Fprint(flags.Output(), "\nFlags:\n")
		}
		fmt.Fprintf(flags.Output(), "  %-*s  %s\n", width, name, texts[i])
	}
}

func exitCode(name string, stderr io.Writer, err error) int {
	var problems config.Problems
	var reported reportedError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitSuccess
	case errors.As(err, &reported):
		return reported.code
	case errors.As(err, &problems):
		fmt.Fprintln(stderr, problems.Error())
		return exitUsage
	}
	fmt.Fprintf(stderr, "kcagent %s: %v\n", name, err)
	if errors.As(err, new(usageError)) {
		return exitUsage
	}
	return exitFailure
}

// parse reads the flags, and rejects arguments that remain. Help goes to stdout, because the
// user requested it.
func parse(io streams, flags *flag.FlagSet, args []string) error {
	for _, a := range args {
		if a == "-h" || a == "-help" || a == "--help" {
			flags.SetOutput(io.out)
		}
	}
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil: // printed by the flag package, with the usage
		return reportedError{exitUsage}
	case flags.NArg() > 0:
		return usageError{fmt.Errorf("unexpected argument %q: every setting is a flag; see --help", flags.Arg(0))}
	}
	return nil
}

// outputFlag adds --output.
func outputFlag(flags *flag.FlagSet) *string {
	return flags.String("output", "text", "format of the output: `text|json`")
}

func checkOneOf(flagName, value string, legal ...string) error {
	if slices.Contains(legal, value) {
		return nil
	}
	return usageError{fmt.Errorf("invalid --%s %q: use %s", flagName, value, strings.Join(legal, " or "))}
}

// urlFlag adds --url.
func urlFlag(flags *flag.FlagSet) *string {
	return flags.String("url", "http://127.0.0.1:8080", "`address` of the agent")
}

// newClient returns a client of the agent that --url names.
func newClient(address string) (client.Client, error) {
	c, err := client.New(address)
	if err != nil {
		return client.Client{}, usageError{fmt.Errorf("--url: %w", err)}
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
