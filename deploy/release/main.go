// Command release builds everything that a release of kcagent consists of, into one folder:
//
//	go run ./deploy/release
//
// The version comes from the tag of the commit. With --snapshot, it builds any state of the
// working tree, to try it out. The same commit, built with the same version of Go, gives the
// same files.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, ".", os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// run builds the release of the module in the folder source.
func run(ctx context.Context, source string, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.SetOutput(stderr)
	out := flags.String("out", "dist/release", "`folder` for the files; a former release in it is replaced")
	version := flags.String("version", "", "`version`, such as v1.2.3; the default is the tag of the commit")
	snapshot := flags.Bool("snapshot", false, "build the working tree as it is, without a tag or a section of the changelog")
	only := flags.String("only", "", "comma-separated `parts` to build: "+strings.Join(partNames(), ", ")+"; the default is all")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: use flags only", flags.Arg(0))
	}
	selected, err := selectParts(*only)
	if err != nil {
		return err
	}
	identity, err := identify(ctx, source, *version, *snapshot)
	if err != nil {
		return err
	}
	names, err := build(ctx, identity, selected, *out)
	if err != nil {
		return fmt.Errorf("build %s: %w", identity.Version, err)
	}
	fmt.Fprintf(stdout, "kcagent %s, commit %s, in %s:\n", identity.Version, identity.Revision, *out)
	for _, name := range names {
		fmt.Fprintf(stdout, "  %s\n", name)
	}
	return nil
}
