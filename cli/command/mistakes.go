package command

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"kcagent/config/strictyaml"
)

// unknownCommand says what to write instead of a command that does not exist.
func unknownCommand(root *cobra.Command, name string, o Options) error {
	if o.Explain != nil {
		if text := o.Explain(name); text != "" {
			return Usagef("unknown command %q: %s", name, text)
		}
	}
	names := []string{"help"}
	for _, c := range root.Commands() {
		names = append(names, c.Name())
	}
	switch near := strictyaml.Nearest(name, names); {
	case near != "":
		return Usagef("unknown command %q; did you mean %s %s?", name, root.Name(), near)
	case isFile(name):
		return Usagef("unknown command %q; did you mean %s run --config %s?", name, root.Name(), name)
	}
	return Usagef("unknown command %q; see %s help", name, root.Name())
}

// isFile reports whether a word is the name of a configuration file.
func isFile(word string) bool {
	switch filepath.Ext(word) {
	case ".yaml", ".yml", ".json":
		return true
	}
	info, err := os.Stat(word)
	return err == nil && info.Mode().IsRegular()
}

// NoArgs rejects arguments, and says which flag they belong to.
func NoArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return unexpectedArgument(c, args[0])
}

func unexpectedArgument(c *cobra.Command, arg string) error {
	switch {
	case isFile(arg) && c.Flags().Lookup("config") != nil:
		return Usagef("unexpected argument %q; did you mean --config %s?", arg, arg)
	case arg == "true" || arg == "false":
		for _, f := range flags(c) {
			if f.Changed && f.NoOptDefVal != "" {
				return Usagef("unexpected argument %q; did you mean --%s=%s?", arg, f.Name, arg)
			}
		}
	}
	return Usagef("unexpected argument %q; see %s --help", arg, c.CommandPath())
}

// FileArg lets the configuration file of a command be its only argument, too.
func FileArg(c *cobra.Command, file *string) {
	c.Use += " [FILE]"
	c.ValidArgsFunction = func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return yamlFiles, cobra.ShellCompDirectiveFilterFileExt
	}
	c.Args = func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return nil
		case c.Flags().Changed("config"):
			return Usagef("unexpected argument %q: --config already names a file", args[0])
		case len(args) > 1:
			return Usagef("unexpected argument %q: name one file", args[1])
		}
		*file = args[0]
		return nil
	}
}

// flagError replaces an error of pflag by one that says how to write the flag.
func flagError(c *cobra.Command, err error) error {
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		return unknownFlag(c, e)
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		name, _ := pflag.UnquoteUsage(e.GetFlag())
		return Usagef("missing value of --%s: write --%s %s", e.GetFlag().Name, e.GetFlag().Name, strings.ToUpper(name))
	}
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return Usagef("invalid --%s %q: %s", e.GetFlag().Name, e.GetValue(), expected(e))
	}
	if e, ok := errors.AsType[*pflag.InvalidSyntaxError](err); ok {
		return Usagef("invalid flag %q; see %s --help", e.GetSpecifiedFlag(), c.CommandPath())
	}
	return UsageError{err}
}

// expected says how to write the value of a flag.
func expected(e *pflag.InvalidValueError) string {
	switch f := e.GetFlag(); f.Value.Type() {
	case "duration":
		if _, err := strconv.ParseFloat(e.GetValue(), 64); err == nil {
			return "it has no unit; use a duration such as " + e.GetValue() + "s"
		}
		example := shownDefault(f)
		if example == "" {
			example = "1m"
		}
		return "use a duration such as " + example
	case "int":
		return "use a whole number"
	case "bool":
		return "use true or false"
	}
	return e.Unwrap().Error()
}

// unknownFlag names the flag that was probably meant. A word after one dash is a long flag,
// because no command has short ones.
func unknownFlag(c *cobra.Command, e *pflag.NotExistError) error {
	given, name := "--"+e.GetSpecifiedName(), e.GetSpecifiedName()
	if short := e.GetSpecifiedShortnames(); short != "" {
		name, _, _ = strings.Cut(short, "=")
		given = "-" + name
	}
	if meant := meantFlag(c, name); meant != "" {
		return Usagef("unknown flag %s; did you mean --%s?", given, meant)
	}
	for _, sub := range c.Commands() { // of the root: the command is missing or follows
		if sub.Flags().Lookup(name) != nil {
			return Usagef("unknown flag %s; did you mean %s --%s?", given, sub.CommandPath(), name)
		}
	}
	if name == "version" {
		return Usagef("unknown flag %s; did you mean %s --version?", given, c.Root().Name())
	}
	return Usagef("unknown flag %s; see %s --help", given, c.CommandPath())
}

func meantFlag(c *cobra.Command, name string) string {
	var names, begin []string
	for _, f := range flags(c) {
		names = append(names, f.Name)
		if strings.HasPrefix(f.Name, name) {
			begin = append(begin, f.Name)
		}
	}
	switch {
	case slices.Contains(names, name):
		return name
	case len(begin) == 1:
		return begin[0]
	}
	return strictyaml.Nearest(name, names)
}
