// Package packages builds the packages for Debian and for distributions with rpm.
// nfpm.yaml lists their contents, and the folders deb and rpm have the scripts that run on a
// host. Its tests install, upgrade and remove the packages in a copy of the machine's files.
package packages

import (
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// nfpm is the tool that writes the packages. It is not in go.mod: the program does not use it,
// and it brings fifty modules.
const nfpm = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0"

// Options say what to build.
type Options struct {
	// Version is the version of the program, as [Version] accepts it.
	Version string
	// Arch is amd64 or arm64.
	Arch string
	// Binary is the path of the program for Linux and Arch, without symbols.
	Binary string
	// Dir is an existing folder for the packages.
	Dir string
}

// Build writes the packages and returns their paths: the one for Debian, then the one for
// rpm. It needs the go command and the source code of this module. If SOURCE_DATE_EPOCH is
// set, two builds of the same source code are equal.
func Build(ctx context.Context, o Options) ([]string, error) {
	if o.Arch != "amd64" && o.Arch != "arm64" {
		return nil, fmt.Errorf("invalid architecture %q: use amd64 or arm64", o.Arch)
	}
	version, err := Version(o.Version)
	if err != nil {
		return nil, err
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	stage, err := os.MkdirTemp("", "kcagent-packages-")
	if err != nil {
		return nil, fmt.Errorf("create folder for generated files: %w", err)
	}
	defer os.RemoveAll(stage)
	if err := generate(root, stage, version); err != nil {
		return nil, err
	}
	binary, err := filepath.Abs(o.Binary)
	if err != nil {
		return nil, fmt.Errorf("find binary: %w", err)
	}
	var built []string
	for format, file := range fileNames(version, o.Arch) {
		file, err := filepath.Abs(filepath.Join(o.Dir, file))
		if err != nil {
			return nil, fmt.Errorf("find folder of the packages: %w", err)
		}
		cmd := exec.CommandContext(ctx, "go", "run", nfpm, "package",
			"--config", "deploy/packages/nfpm.yaml", "--packager", format, "--target", file)
		cmd.Dir = root
		// nfpm runs here, even if the caller builds for another system.
		cmd.Env = append(os.Environ(), "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH, "GOFLAGS=",
			"VERSION="+version, "ARCH="+o.Arch, "BINARY="+binary, "STAGE="+stage)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", file, err, out)
		}
		built = append(built, file)
	}
	return built, nil
}

// fileNames yields each format with the name of its file, by the conventions of its
// distributions.
func fileNames(version, arch string) iter.Seq2[string, string] {
	return func(yield func(format, file string) bool) {
		rpmArch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]
		_ = yield("deb", fmt.Sprintf("kcagent_%s_%s.deb", version, arch)) &&
			yield("rpm", fmt.Sprintf("kcagent-%s-1.%s.rpm", version, rpmArch))
	}
}

// moduleRoot returns the folder of this module.
func moduleRoot(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "kcagent")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find the source code of kcagent: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
