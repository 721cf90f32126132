package cli

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
)

var versionCommand = command{
	name:    "version",
	summary: "print the version",
	example: "kcagent version",
	run:     runVersion,
}

// linked is set by the linker for releases: -X kcagent/cli.linked=1.2.3.
var linked string

// version returns the linked version, or the one in the build information.
func version() string {
	if linked != "" {
		return linked
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

func runVersion(_ context.Context, io streams, flags *flag.FlagSet, args []string) error {
	if err := parse(io, flags, args); err != nil {
		return err
	}
	_, err := fmt.Fprintf(io.out, "kcagent %s (%s %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
