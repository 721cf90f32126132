package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"kcagent/cli/command"
	"kcagent/config"
)

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "print the JSON Schema of the file, for editors",
		Long: `
The schema is a little more lenient than validate, which also checks rules that a schema
cannot express.`,
		Example: "kcagent schema > consumers.schema.json",
		Args:    command.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := c.OutOrStdout().Write(config.Schema())
			return err
		},
	}
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "print the version",
		Example: "kcagent version",
		Args:    command.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return printVersion(c.OutOrStdout()) },
	}
}

// linked is set by the linker for releases: -X kcagent/cli.linked=1.2.3.
var linked string

// version returns the linked version, or the one in the build information, which is the tag in
// a clone. Neither has a leading v.
func version() string {
	if linked != "" {
		return linked
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return strings.TrimPrefix(info.Main.Version, "v")
	}
	return "devel"
}

func printVersion(w io.Writer) error {
	_, err := fmt.Fprintf(w, "kcagent %s (%s %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
