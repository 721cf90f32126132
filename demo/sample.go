package demo

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// What is in the folder of a demo.
const (
	sampleName = "consumers.yaml"
	dataDir    = "data"
)

//go:embed consumers.yaml.tmpl
var sampleText string

// writeSample writes the sample file into dir, which it makes if need be. A
// file that is there is the user's: it is kept.
func writeSample(dir string) (kept bool, err error) {
	text, err := sample(dir)
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, fmt.Errorf("make folder for the demo: %w", err)
	}
	path := filepath.Join(dir, sampleName)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("write sample file: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path) // half a sample would be kept as the user's
		return false, fmt.Errorf("write sample file: %w", err)
	}
	return false, nil
}

// sample is the content of the sample file. The paths in it are absolute, so
// that other commands can use the file from any folder.
func sample(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find folder for the demo: %w", err)
	}
	file := func(name string) (string, error) {
		// A string of JSON is one of YAML; $$ is the file's way to write $.
		quoted, err := json.Marshal(filepath.Join(dir, dataDir, name))
		return strings.ReplaceAll(string(quoted), "$", "$$"), err
	}
	t, err := template.New(sampleName).Funcs(template.FuncMap{"file": file}).Parse(sampleText)
	if err != nil {
		return "", fmt.Errorf("parse sample file: %w", err)
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]string{"Env": BrokerEnv, "Addr": preferredAddr, "Dir": dir})
	return b.String(), err
}
