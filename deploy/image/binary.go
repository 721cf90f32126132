package image

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Binary builds the released binary of the module in source, static and without symbols,
// for Linux on arch, and writes it to the file out. Settings of the user for the go command
// have no effect on the result.
func Binary(ctx context.Context, source, arch, version, out string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return fmt.Errorf("build kcagent: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", linkerFlags(version), "-o", out, ".")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch,
		"GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOWORK=off")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build kcagent for %s: %w\n%s", arch, err, text)
	}
	return nil
}

func linkerFlags(version string) string {
	return "-s -w -X kcagent/cli.linked=" + version
}
