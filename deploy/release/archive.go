package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"kcagent/cli"
	"kcagent/deploy/image"
	"kcagent/deploy/licenses"
)

// archived are the files of the repository that each archive contains, and their names in it.
// A name that ends with a slash is a folder that gets all files that match.
var archived = []struct{ from, to string }{
	{"LICENSE", "LICENSE"},
	{"README.md", "README.md"},
	{"CHANGELOG.md", "CHANGELOG.md"},
	{"ARCHITECTURE.md", "ARCHITECTURE.md"},
	{"CONTRIBUTING.md", "CONTRIBUTING.md"},
	{"Dockerfile", "Dockerfile"},
	{"docs/*.md", "docs/"},
	{"docs/*.png", "docs/"},
	{"docs/*.svg", "docs/"},
	{"docs/*.json", "docs/"},
	{"docs/performance/*.csv", "docs/performance/"},
	{"examples/*.md", "examples/"},
	{"examples/*.yaml", "examples/"},
	{"examples/ansible/*", "examples/ansible/"},
	{"consumers.yaml", "consumers.yaml"},
	{"docs/man/*.1", "man/"},
	{"deploy/systemd/kcagent.*", "systemd/"},
	{"deploy/prometheus/*.yaml", "prometheus/"},
	{"deploy/grafana/*.json", "grafana/"},
}

// completions are the shells and the names that their packages give to completion files.
var completions = []struct{ shell, file string }{
	{"bash", "completions/kcagent.bash"},
	{"zsh", "completions/_kcagent"},
	{"fish", "completions/kcagent.fish"},
}

// writeArchives writes one tar.gz for each architecture: the binary and what belongs to it.
func writeArchives(r *release) error {
	common, err := commonFiles(r.Source)
	if err != nil {
		return err
	}
	binaries, err := r.binaries()
	if err != nil {
		return err
	}
	for _, arch := range image.Arches {
		binary, err := os.ReadFile(binaries[arch])
		if err != nil {
			return err
		}
		files := append([]file{{"kcagent", 0o755, binary}}, common...)
		name := fmt.Sprintf("kcagent-%s-linux-%s", r.Version, arch)
		text, err := tarball(name, files, r.Created)
		if err != nil {
			return err
		}
		if err := r.write(name+".tar.gz", text); err != nil {
			return err
		}
	}
	return nil
}

// A file is one of an archive.
type file struct {
	name    string
	mode    fs.FileMode
	content []byte
}

func commonFiles(source string) ([]file, error) {
	var files []file
	for _, a := range archived {
		matches, err := filepath.Glob(filepath.Join(source, a.from))
		if err != nil {
			return nil, err
		}
		if len(matches) == 0 {
			return nil, fmt.Errorf("no file %s in %s", a.from, source)
		}
		for _, match := range matches { // sorted
			content, err := os.ReadFile(match)
			if err != nil {
				return nil, err
			}
			name := a.to
			if strings.HasSuffix(name, "/") {
				name += filepath.Base(match)
			}
			files = append(files, file{name, 0o644, content})
		}
	}
	thirdParty, err := licenses.Text(source)
	if err != nil {
		return nil, err
	}
	files = append(files, file{licenses.File, 0o644, thirdParty})
	for _, c := range completions {
		var out, problem bytes.Buffer
		if code := cli.Run([]string{"completion", c.shell}, &out, &problem); code != 0 {
			return nil, fmt.Errorf("kcagent completion %s exits with %d: %s", c.shell, code, &problem)
		}
		files = append(files, file{c.file, 0o644, out.Bytes()})
	}
	return files, nil
}

// tarball returns a tar.gz with files in the given order, in a folder of the given name, all
// of the given time and of root.
func tarball(folder string, files []file, modified time.Time) ([]byte, error) {
	var compressed bytes.Buffer
	zip := gzip.NewWriter(&compressed) // of a module, whose version go.sum determines
	w := tar.NewWriter(zip)
	for _, f := range files {
		h := &tar.Header{
			Name: path.Join(folder, f.name), Typeflag: tar.TypeReg, Mode: int64(f.mode), Size: int64(len(f.content)),
			Uname: "root", Gname: "root", ModTime: modified, Format: tar.FormatPAX,
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	return compressed.Bytes(), nil
}
