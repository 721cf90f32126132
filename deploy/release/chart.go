package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"kcagent/deploy/image"
)

// writeChart writes the archive of the Helm chart. It is not written by helm, whose archives
// contain the current time.
func writeChart(r *release) error {
	var files []file
	chart := os.DirFS(filepath.Join(r.Source, "deploy", "helm", "kcagent"))
	err := fs.WalkDir(chart, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path == ".helmignore" {
			return err
		}
		content, err := fs.ReadFile(chart, path)
		if err != nil {
			return err
		}
		if path == "Chart.yaml" {
			if content, err = chartVersion(content, r.Version); err != nil {
				return err
			}
		}
		files = append(files, file{path, 0o644, content})
		return nil
	})
	if err != nil {
		return err
	}
	text, err := tarball("kcagent", files, r.Created)
	if err != nil {
		return err
	}
	return r.write("kcagent-"+r.Version+"-chart.tgz", text)
}

// chartVersion sets the version of a chart, and that of the program, which is also the tag of
// the image.
func chartVersion(chart []byte, version string) ([]byte, error) {
	for _, line := range []struct{ key, value string }{{"version", version}, {"appVersion", image.Tag(version)}} {
		key := regexp.MustCompile(`(?m)^` + line.key + `: .*$`)
		if !key.Match(chart) {
			return nil, fmt.Errorf("no line %q in Chart.yaml", line.key)
		}
		chart = key.ReplaceAll(chart, fmt.Appendf(nil, "%s: %q", line.key, line.value))
	}
	return chart, nil
}
