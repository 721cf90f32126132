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

// A command is one word of the command line.
type command struct {
	name    string
	summary string
	example string
	run     func(ctx context.Context, io streams, flags *flag.FlagSet, args []string) error
}

type streams struct{ out, err io.Writer }

func commands() []command {
	return []command{
		{"run", "keep the consumers as the file says", "kcagent run --config consumers.yaml --listen 127.0.0.1:8080", runCommand},
		{"validate", "check a file, and with --online what it names", "kcagent validate --config consumers.yaml --online", validateCommand},
		{"plan", "say what a file would change in the running agent: exit 0 nothing, 2 changes, 1 error", "kcagent plan --config consumers.yaml --url http://127.0.0.1:8080", planCommand},
		{"status", "show what a running agent does, or wait until it does what a file says", "kcagent status --wait consumers.yaml --timeout 60s", statusCommand},
		{"schema", "print the JSON Schema of the file, for editors", "kcagent schema > consumers.schema.json", schemaCommand},
		{"demo", "everything at work, on an embedded Kafka broker", "kcagent demo --dir /tmp/kcagent-demo --duration 1m", demoCommand},
		{"verify", "prove from JSON-format files that no offset is missing or repeated", "kcagent verify /data/orders*.jsonl", verifyCommand},
		{"health", "ask a running agent whether it answers, for container health checks", "kcagent health --url http://127.0.0.1:8080", healthCommand},
		{"version", "print the version", "kcagent version", versionCommand},
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
	fmt.Fprint(w, "kcagent keeps a set of Kafka consumers exactly as one YAML file says.\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-9s  %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\nEach has --help with an example. Exit codes: 0 good, 1 failure, 2 wrong usage or configuration.\n")
}

func (c command) exec(io streams, args []string) int {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.err)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "kcagent %s: %s\n\nExample:\n  %s\n", c.name, c.summary, c.example)
		printFlags(flags)
	}
	ctx, stop := signals(io.err)
	defer stop()
	return exitCode(c.name, io.err, c.run(ctx, io, flags, args))
}

// printFlags lists the flags as they are written here, with two dashes.
func printFlags(flags *flag.FlagSet) {
	title := "\nFlags:\n"
	flags.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		name := strings.TrimRight("--"+f.Name+" "+value, " ")
		if f.DefValue != "" {
			text += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(flags.Output(), "%s  %-30s %s\n", title, name, text)
		title = ""
	})
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
	return flags.String("output", "text", "how to print the result: `text|json`")
}

func checkOneOf(flagName, value string, legal ...string) error {
	for _, l := range legal {
		if value == l {
			return nil
		}
	}
	return errUsage{fmt.Errorf("--%s is %q: write %s", flagName, value, strings.Join(legal, " or "))}
}
