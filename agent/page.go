package agent

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"strings"
)

// page is for people: it shows /status and asks for it again every two seconds.
//
//go:embed page/index.html
var page []byte

// pagePolicy lets the page run its own script and style, and nothing that a
// consumer's name or error might smuggle in.
var pagePolicy = "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; script-src " +
	digest("script") + "; style-src " + digest("style")

// digest is that of the page's one element of a kind, as a policy names it.
func digest(tag string) string {
	_, rest, _ := strings.Cut(string(page), "<"+tag+">")
	body, _, _ := strings.Cut(rest, "</"+tag+">")
	sum := sha256.Sum256([]byte(body))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func servePage(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", pagePolicy)
	_, _ = w.Write(page) // the client may be gone; nobody else would care
}
