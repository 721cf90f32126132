package command

import (
	"slices"

	"github.com/spf13/cobra"
)

// completionCommand prints the scripts that cobra generates. They call the program for each
// completion, so that they never become out of date.
func completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	c := &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "print the script that completes commands, flags and values in a shell",
		Long: `
To load the script into each new shell:

  bash  kcagent completion bash > /etc/bash_completion.d/kcagent
        requires the package bash-completion
  zsh   kcagent completion zsh > "${fpath[1]}/_kcagent"
        requires "autoload -U compinit; compinit" in ~/.zshrc
  fish  kcagent completion fish > ~/.config/fish/completions/kcagent.fish`,
		Example:   "source <(kcagent completion bash)",
		ValidArgs: shells,
		Args: func(c *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return Usagef("missing shell: use bash, zsh or fish")
			case len(args) > 1:
				return unexpectedArgument(c, args[1])
			case !slices.Contains(shells, args[0]):
				return Usagef("unknown shell %q: use bash, zsh or fish", args[0])
			}
			return nil
		},
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		root, w := c.Root(), c.OutOrStdout()
		switch args[0] {
		case "bash":
			return root.GenBashCompletionV2(w, true)
		case "zsh":
			return root.GenZshCompletion(w)
		}
		return root.GenFishCompletion(w, true)
	}
	return c
}
