package web

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"strings"
)

// page is for people: its script requests /status every two seconds and shows it.
//
//go:embed page/index.html
var page []byte

// pagePolicy lets the page run its own script and style, and nothing that the name of a
// consumer or an error might contain.
var pagePolicy = "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; script-src " +
	digest("script") + "; style-src " + digest("style")

// digest identifies the only element with a tag in a Content-Security-Policy.
func digest(tag string) string {
	_, rest, _ := strings.Cut(string(page), "<"+tag+">")
	body, _, _ := strings.Cut(rest, "</"+tag+">")
	sum := sha256.Sum256([]byte(body))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func servePage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", pagePolicy)
	replyBytes(w, r, http.StatusOK, "text/html; charset=utf-8", page)
}
