// Package command configures cobra for all commands: the layout of help, usage errors of one
// line that say what to write instead, exit codes, shell completion and signals. It does not
// depend on single commands. Start reading at [Execute].
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"kcagent/config"
)

// Exit codes.
const (
	Success = 0
	Failure = 1
	Usage   = 2 // invalid usage or configuration
)

// A UsageError is an error that the user can correct by changing the command line.
type UsageError struct{ error }

func (e UsageError) Unwrap() error { return e.error }

// Usagef returns a [UsageError].
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// A Reported is the exit code of a command that has printed its failure already.
type Reported int

func (e Reported) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// Options configure [Execute].
type Options struct {
	// Explain returns what to do instead of an unknown command; "" if there is nothing to
	// say.
	Explain func(name string) string
}

// Execute runs the command that args name and returns the exit code. It adds the commands
// help and completion to root. Results and requested help go to stdout, everything else to
// stderr.
func Execute(root *cobra.Command, args []string, stdout, stderr io.Writer, o Options) int {
	Prepare(root)
	root.SetOut(stdout)
	root.SetErr(stderr)
	args = longHelp(args)
	root.SetArgs(args)
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		plainUsage(root)
	}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") && !isCommand(root, args[0]) {
		return report(root, stderr, unknownCommand(root, args[0], o))
	}
	ctx, stop := signals(stderr)
	defer stop()
	c, err := root.ExecuteContextC(ctx)
	return report(c, stderr, err)
}

// Prepare adds help, completion and the texts of usage errors to root. Execute calls it, and so
// does the generator of the manual pages, which runs no command.
func Prepare(root *cobra.Command) {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(flagError)
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { help(c.OutOrStdout(), c) })
	root.SetHelpCommand(helpCommand())
	root.AddCommand(completionCommand())
	for _, c := range root.Commands() {
		if c.Use == c.Name() { // has no arguments, so a shell must not offer files
			c.ValidArgsFunction = cobra.NoFileCompletions
		}
	}
}

// longHelp replaces -help, which many programs written in Go accept.
func longHelp(args []string) []string {
	args = slices.Clone(args)
	for i, a := range args {
		if a == "--" {
			break
		}
		if a == "-help" || a == "-version" {
			args[i] = "-" + a
		}
	}
	return args
}

// plainUsage removes the marks around the names of values from the texts of flags, which
// completion scripts show as they are.
func plainUsage(root *cobra.Command) {
	for _, c := range root.Commands() {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) { _, f.Usage = pflag.UnquoteUsage(f) })
	}
}

// isCommand reports whether a first argument is for cobra to resolve. The commands that
// begin with two underscores are requests of the completion scripts.
func isCommand(root *cobra.Command, name string) bool {
	return name == "help" || strings.HasPrefix(name, cobra.ShellCompRequestCmd) || find(root, name) != nil
}

func find(root *cobra.Command, name string) *cobra.Command {
	for _, c := range root.Commands() {
		if c.Name() == name {
			return c
		}
	}
	return nil
}

// report prints an error once, after the command that failed, and returns the exit code.
func report(c *cobra.Command, stderr io.Writer, err error) int {
	usage := Usage
	if c.Annotations[usageFails] != "" {
		usage = Failure
	}
	var problems config.Problems
	var reported Reported
	switch {
	case err == nil:
		return Success
	case errors.As(err, &reported):
		return int(reported)
	case errors.As(err, &problems):
		fmt.Fprintln(stderr, problems.Error())
		return usage
	case errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
	}
	for _, one := range separate(err) {
		fmt.Fprintf(stderr, "%s: %v\n", c.CommandPath(), one)
	}
	if errors.As(err, new(UsageError)) {
		return usage
	}
	return Failure
}

// separate returns the parts of an error that [errors.Join] made.
func separate(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

const usageFails = "usage fails"

// UsageFails makes invalid usage of a command exit with [Failure], because it uses the exit
// code 2 for a result.
func UsageFails(c *cobra.Command) { annotate(c, usageFails, "true") }

// Exits sets the meanings of the exit codes 0, 1 and 2 of a command, for its help.
func Exits(c *cobra.Command, meanings ...string) {
	annotate(c, exitCodes, strings.Join(meanings, "\n"))
}

const exitCodes = "exit codes"

// ExitCodes returns the meanings of the exit codes of a command, beginning with 0.
func ExitCodes(c *cobra.Command) []string {
	if text, ok := c.Annotations[exitCodes]; ok {
		return strings.Split(text, "\n")
	}
	return []string{"success", "failure", "invalid usage or configuration"}
}

func annotate(c *cobra.Command, key, value string) {
	if c.Annotations == nil {
		c.Annotations = make(map[string]string)
	}
	c.Annotations[key] = value
}
