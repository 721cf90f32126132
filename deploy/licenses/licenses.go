// Package licenses collects the licenses of what a release contains besides the code of
// kcagent: they require that each copy of the binary comes with their texts.
package licenses

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// File is the name of the file in releases.
const File = "THIRD_PARTY_LICENSES"

// arches are the architectures that releases are built for. One text is for all of them.
var arches = []string{"amd64", "arm64"}

// certificates is the package with the certificates of the image.
const certificates = "golang.org/x/crypto/x509roots/fallback/bundle"

// head also says where the source code is, as the Mozilla Public License requires.
const head = `The binary kcagent contains the Go modules below and parts of Go's standard library. The
released container image also contains the certificates of the module
golang.org/x/crypto/x509roots/fallback. These are the licenses and notices of all of them.

The command "go mod download PATH@VERSION" fetches the source code of a module.
`

// Text returns the licenses and notices of the modules that the binary of the module in
// source is built from, of Go's standard library, and of the certificates of the image. It
// reads them from Go's module cache. A module without a license is an error. The same go.mod
// and version of Go give the same text.
func Text(source string) ([]byte, error) {
	modules := make(map[string]module)
	for _, arch := range arches {
		if err := list(source, arch, modules); err != nil {
			return nil, fmt.Errorf("list modules for %s: %w", arch, err)
		}
	}
	var text bytes.Buffer
	text.WriteString(head)
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		fmt.Fprintf(&text, "\n%s\n%s\n", strings.Repeat("=", 80), name)
		if err := modules[name].write(&text); err != nil {
			return nil, fmt.Errorf("collect licenses of %s: %w", name, err)
		}
	}
	return text.Bytes(), nil
}

// A module is one in the module cache, or Go's standard library.
type module struct {
	dir     string
	folders map[string]bool // of its packages that are linked
}

// list adds the modules of all packages that are linked, by path and version.
func list(source, arch string, modules map[string]module) error {
	cmd := exec.Command("go", "list", "-deps", "-json=Dir,Root,Standard,Module", ".", certificates)
	cmd.Dir = source
	// As image.Binary builds.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off")
	var problem bytes.Buffer
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, &problem)
	}
	version, err := goVersion(source)
	if err != nil {
		return err
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir, Root string
			Standard  bool
			Module    struct {
				Path, Version, Dir string
				Main               bool
			}
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		name, dir := p.Module.Path+" "+p.Module.Version, p.Module.Dir
		if p.Standard {
			name, dir = "std "+version, p.Root
		}
		if p.Module.Main || p.Dir == "" { // unsafe has no folder
			continue
		}
		if _, ok := modules[name]; !ok {
			modules[name] = module{dir, make(map[string]bool)}
		}
		modules[name].folders[p.Dir] = true
	}
}

// goVersion returns the version of Go that builds the module, such as 1.26.8.
func goVersion(source string) (string, error) {
	cmd := exec.Command("go", "env", "GOVERSION")
	cmd.Dir = source
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("look up the version of Go: %w", err)
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "go"), nil
}

var (
	license = regexp.MustCompile(`(?i)^(licen[sc]e|copying|unlicense)([.-].+)?$`)
	notice  = regexp.MustCompile(`(?i)^(notice|patents|copyright)([.-].+)?$`)
)

// write writes the files with licenses and notices in the folders of the linked packages and
// in those above them: code that a module copied from elsewhere has its own license.
func (m module) write(text *bytes.Buffer) error {
	folders := map[string]bool{m.dir: true}
	for at := range m.folders {
		for ; strings.HasPrefix(at, m.dir+string(filepath.Separator)); at = filepath.Dir(at) {
			folders[at] = true
		}
	}
	licensed := false
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return err
		}
		for _, e := range entries {
			isLicense := license.MatchString(e.Name())
			if e.IsDir() || filepath.Ext(e.Name()) == ".go" || !isLicense && !notice.MatchString(e.Name()) {
				continue
			}
			path := filepath.Join(folder, e.Name())
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(m.dir, path)
			if err != nil {
				return err
			}
			content = bytes.TrimSpace(bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n")))
			fmt.Fprintf(text, "\n--- %s ---\n\n%s\n", filepath.ToSlash(name), content)
			licensed = licensed || isLicense && folder == m.dir && len(content) > 0
		}
	}
	if !licensed {
		return errors.New("no license file in its root folder; use another module")
	}
	return nil
}
