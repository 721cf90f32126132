// Package page is the page for people at /: content that the server renders, and the
// embedded style sheets and scripts that keep it up to date. There is no build step: the
// browser loads the files below assets as they are.
//
// The names of consumers and the texts of errors come from elsewhere. html/template escapes
// them in the rendered content, the scripts only ever set text, and the Content-Security-Policy
// lets the page run nothing but its own files.
package page

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"path"
	"time"
)

//go:embed index.html assets
var files embed.FS

// Policy is the Content-Security-Policy of the page: it loads its own files and nothing
// else. Inline scripts and styles do not run, and a script that assigns HTML fails.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

var index = template.Must(template.New("index.html").Funcs(template.FuncMap{
	"clock": func(t time.Time) string { return t.Format(time.TimeOnly) },
	"stamp": func(t time.Time) string { return t.Format(time.RFC3339) },
	"age":   func(t time.Time) string { return Duration(time.Since(t)) },
}).ParseFS(files, "index.html"))

// Render returns the page with its content.
func Render(l *Content) ([]byte, error) {
	var text bytes.Buffer
	if err := index.Execute(&text, l); err != nil {
		return nil, fmt.Errorf("render the page: %w", err)
	}
	return text.Bytes(), nil
}

// A File is a response with its type.
type File struct {
	Content   []byte
	MediaType string
}

// mediaTypes are fixed, because the media types that the system defines may differ.
var mediaTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

// Asset returns a file that the page loads, and false if there is no such file.
func Asset(name string) (File, bool) {
	content, err := files.ReadFile("assets/" + name)
	return File{content, mediaTypes[path.Ext(name)]}, err == nil
}
