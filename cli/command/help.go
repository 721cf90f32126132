package command

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The commands are in the order of their importance.
func init() { cobra.EnableCommandSorting = false }

// help prints everything about a command.
func help(w io.Writer, c *cobra.Command) {
	if !c.HasParent() {
		Overview(w, c)
		return
	}
	fmt.Fprintf(w, "%s: %s\n\nUsage:\n  %s\n", c.CommandPath(), c.Short, usageLine(c))
	if c.Long != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(c.Long))
	}
	printFlags(w, c)
	fmt.Fprint(w, "\nExit codes:\n")
	for code, meaning := range ExitCodes(c) {
		fmt.Fprintf(w, "  %d  %s\n", code, meaning)
	}
	fmt.Fprintf(w, "\nExample:\n  %s\n", c.Example)
}

// Overview prints the list of commands.
func Overview(w io.Writer, root *cobra.Command) {
	fmt.Fprintf(w, "%s\n\nCommands:\n", root.Short)
	width := 0
	for _, c := range root.Commands() {
		width = max(width, len(c.Name()))
	}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			fmt.Fprintf(w, "  %-*s  %s\n", width, c.Name(), c.Short)
		}
	}
	fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(root.Long))
}

// usageLine is the command with the places of its flags and arguments.
func usageLine(c *cobra.Command) string {
	name, args, _ := strings.Cut(c.Use, " ")
	line := c.Parent().CommandPath() + " " + name
	if len(flags(c)) > 0 {
		line += " [flags]"
	}
	return strings.TrimRight(line+" "+args, " ")
}

// flags returns the flags of a command in alphabetical order, without --help.
func flags(c *cobra.Command) (all []*pflag.Flag) {
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && !f.Hidden {
			all = append(all, f)
		}
	})
	return all
}

func printFlags(w io.Writer, c *cobra.Command) {
	var names, texts []string
	width := 0
	for _, f := range flags(c) {
		value, text := pflag.UnquoteUsage(f)
		name := strings.TrimRight("--"+f.Name+" "+value, " ")
		if d := shownDefault(f); d != "" {
			text += " (default " + d + ")"
		}
		names, texts, width = append(names, name), append(texts, text), max(width, len(name))
	}
	for i, name := range names {
		if i == 0 {
			fmt.Fprint(w, "\nFlags:\n")
		}
		fmt.Fprintf(w, "  %-*s  %s\n", width, name, texts[i])
	}
}

// shownDefault returns the default of a flag; "" if it is the zero value.
func shownDefault(f *pflag.Flag) string {
	switch f.DefValue {
	case "false", "0", "0s", "[]":
		return ""
	}
	if f.Value.Type() == "duration" && strings.HasSuffix(f.DefValue, "m0s") {
		return strings.TrimSuffix(f.DefValue, "0s")
	}
	return f.DefValue
}

// helpCommand prints the overview, or the help of one command.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "print the list of commands, or the help of one",
		Example: "kcagent help run",
		Hidden:  true, // the overview ends with it
		ValidArgsFunction: func(c *cobra.Command, args []string, _ string) (names []cobra.Completion, d cobra.ShellCompDirective) {
			for _, sub := range c.Root().Commands() {
				if len(args) == 0 && sub.IsAvailableCommand() {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			root := c.Root()
			switch {
			case len(args) == 0:
				Overview(c.OutOrStdout(), root)
				return nil
			case len(args) > 1:
				return unexpectedArgument(c, args[1])
			}
			about := find(root, args[0])
			if about == nil {
				return unknownCommand(root, args[0], Options{})
			}
			help(c.OutOrStdout(), about)
			return nil
		},
	}
}
