// Package cli is the command line: one file a command, each a thin layer over
// the package that does the work. Results go to stdout, everything else to
// stderr.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"kcagent/config"
)

// Exit codes.
const (
	exitGood    = 0
	exitFailure = 1
	exitUsage   = 2 // wrong usage or configuration
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
	{exitGood, "success"},
	{exitFailure, "failure"},
	{exitUsage, "invalid usage or configuration"},
}

type streams struct{ out, err io.Writer }

func commands() []command {
	return []command{
		runHelp, validateHelp, planHelp, statusHelp, schemaHelp, demoHelp, verifyHelp, healthHelp, versionHelp,
	}
}

// errUsage marks an error for which the user has to change the command line.
type errUsage struct{ error }

func (e errUsage) Unwrap() error { return e.error }

// errReported is a failure that the command has already told the user about.
type errReported struct{ code int }

func (e errReported) Error() string { return fmt.Sprintf("exit %d", e.code) }

// Run runs the command that args name and returns the exit code: 0 good, 1
// failure, 2 wrong usage or configuration.
func Run(args []string, stdout, stderr io.Writer) int {
	io := streams{stdout, stderr}
	if len(args) == 0 {
		usage(stderr)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		usage(stdout)
		return exitGood
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.exec(io, args[1:])
		}
	}
	fmt.Fprintf(stderr, "kcagent: no command is named %q; see kcagent help\n", args[0])
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
	var reported errReported
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitGood
	case errors.As(err, &reported):
		return reported.code
	case errors.As(err, &problems):
		fmt.Fprintln(stderr, problems.Error())
		return exitUsage
	}
	fmt.Fprintf(stderr, "kcagent %s: %v\n", name, err)
	if errors.As(err, new(errUsage)) {
		return exitUsage
	}
	return exitFailure
}

// parse reads the flags and refuses what is left over. Help goes to stdout,
// for it was asked for.
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
	case err != nil: // the flag package has printed it, and the usage
		return errReported{exitUsage}
	case flags.NArg() > 0:
		return errUsage{fmt.Errorf("unexpected argument %q: every setting is a flag, see --help", flags.Arg(0))}
	}
	return nil
}

// outputFlag adds --output.
func outputFlag(flags *flag.FlagSet) *string {
	return flags.String("output", "text", "format of the output: `text|json`")
}

func checkOneOf(flagName, value string, legal ...string) error {
	for _, l := range legal {
		if value == l {
			return nil
		}
	}
	return errUsage{fmt.Errorf("--%s is %q: write %s", flagName, value, strings.Join(legal, " or "))}
}
