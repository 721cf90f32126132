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

// The content of the folder of a demo.
const (
	sampleName = "consumers.yaml"
	dataDir    = "data"
	objectsDir = "objects"
	spoolDir   = "spool"
)

//go:embed consumers.yaml.tmpl
var filesText string

//go:embed objects.yaml.tmpl
var objectsText string

// writeSample writes the sample file into dir, which it creates if it does not exist: with files or,
// if objects is set, with objects. A file that exists belongs to the user and is kept.
func writeSample(dir string, objects bool) (kept bool, err error) {
	text := filesText
	if objects {
		text = objectsText
	}
	text, err = sample(dir, text)
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, fmt.Errorf("create folder for the demo: %w", err)
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
		_ = os.Remove(path) // the next demo would keep a partial sample as the user's file
		return false, fmt.Errorf("write sample file: %w", err)
	}
	return false, nil
}

// sample returns the content of the sample file. Its paths are absolute, so that other
// commands can use the file from any folder.
func sample(dir, text string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find folder for the demo: %w", err)
	}
	quote := func(text string) (string, error) {
		// A JSON string is a YAML string; $$ in the file is a dollar sign.
		quoted, err := json.Marshal(text)
		return strings.ReplaceAll(string(quoted), "$", "$$"), err
	}
	t, err := template.New(sampleName).Funcs(template.FuncMap{
		"file":  func(name string) (string, error) { return quote(filepath.Join(dir, dataDir, name)) },
		"url":   func() (string, error) { return quote(objectsURL(dir)) },
		"spool": func() (string, error) { return quote(filepath.Join(dir, spoolDir)) },
	}).Parse(text)
	if err != nil {
		return "", fmt.Errorf("parse sample file: %w", err)
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]string{"Env": BrokerEnv, "Addr": preferredAddr, "Dir": dir})
	return b.String(), err
}

// objectsURL returns the URL of the folder with objects.
func objectsURL(dir string) string { return "file://" + filepath.Join(dir, objectsDir) }
