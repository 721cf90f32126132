package command

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Choice adds a flag that has one of the legal values, in lower case.
func Choice(c *cobra.Command, name, value, usage string, legal ...string) *string {
	v := &choice{value, legal}
	c.Flags().Var(v, name, usage)
	complete(c, name, cobra.FixedCompletions(v.legal, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder))
	return &v.value
}

// A choice implements [github.com/spf13/pflag.Value].
type choice struct {
	value string
	legal []string
}

func (v *choice) String() string { return v.value }

func (v *choice) Type() string { return strings.Join(v.legal, "|") }

func (v *choice) Set(text string) error {
	lower := strings.ToLower(text)
	if !slices.Contains(v.legal, lower) {
		last := len(v.legal) - 1
		return errors.New("use " + strings.Join(v.legal[:last], ", ") + " or " + v.legal[last])
	}
	v.value = lower
	return nil
}

var yamlFiles = []string{"yaml", "yml"}

// CompleteYAML completes the value of a flag with YAML files.
func CompleteYAML(c *cobra.Command, flag string) {
	complete(c, flag, func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return yamlFiles, cobra.ShellCompDirectiveFilterFileExt
	})
}

// CompleteFolder completes the value of a flag with folders.
func CompleteFolder(c *cobra.Command, flag string) {
	complete(c, flag, func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveFilterDirs
	})
}

// CompleteNothing offers no files for the value of a flag.
func CompleteNothing(c *cobra.Command, flags ...string) {
	for _, flag := range flags {
		complete(c, flag, cobra.NoFileCompletions)
	}
}

func complete(c *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // the flag does not exist
	}
}
