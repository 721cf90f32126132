package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzhttp"

	"kcagent/agent/web/fields"
)

// minCompressed is the size in bytes from which a response is compressed. A smaller one
// fits into one packet anyway.
const minCompressed = 1024

// compress compresses the responses of h for clients that accept gzip. It does not offer
// zstd: every client supports gzip, and a zstd writer needs more memory.
func compress(h http.Handler) http.Handler {
	wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(minCompressed), gzhttp.EnableZstd(false))
	if err != nil {
		panic(err) // an option is invalid: a defect
	}
	gzipped := wrap(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead { // gzhttp does not compress the response to HEAD, which must have the headers of GET
			asGet := *r
			asGet.Method = http.MethodGet // the server sends no body all the same
			r = &asGet
		}
		gzipped(w, r)
	})
}

// reply responds with all of body as indented JSON.
func reply(w http.ResponseWriter, r *http.Request, code int, body any) {
	replySelected(w, r, code, body, query{fields: fields.All})
}

// buffers are for the text of responses, which can have several MB. The server limits how many
// it produces at a time.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// replySelected responds with the selected fields of body as JSON.
func replySelected(w http.ResponseWriter, r *http.Request, code int, body any, q query) {
	text, indented := buffers.Get().(*bytes.Buffer), buffers.Get().(*bytes.Buffer)
	defer func() {
		text.Reset()
		indented.Reset()
		buffers.Put(text)
		buffers.Put(indented)
	}()
	err := q.fields.Append(text, body)
	if err == nil && !q.compact {
		err = json.Indent(indented, text.Bytes(), "", "  ")
		text, indented = indented, text
	}
	if err != nil { // a value that JSON cannot hold: a defect
		code = http.StatusInternalServerError
		text.Reset()
		text.WriteString(`{"error": "encode the response as JSON"}`)
	}
	text.WriteByte('\n')
	replyBytes(w, r, code, "application/json", text.Bytes())
}

func replyError(w http.ResponseWriter, r *http.Request, code int, message string) {
	reply(w, r, code, map[string]string{"error": message})
}

// replyBytes responds with body, or with 304 if the client has it already.
func replyBytes(w http.ResponseWriter, r *http.Request, code int, contentType string, body []byte) {
	h := w.Header()
	if code == http.StatusOK {
		tag := entityTag(body)
		h.Set("ETag", tag)
		h.Set("Cache-Control", "no-cache") // a cache may store it, and must ask whether it is current
		if hasEntity(r, tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	} else {
		h.Set("Cache-Control", "no-store")
	}
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body))) // compress removes it
	w.WriteHeader(code)
	_, _ = w.Write(body) // fails if the client has gone
}

// entityTag returns the validator of a response. It is weak, because the response has the
// same one with and without compression (RFC 9110, 8.8.1).
func entityTag(body []byte) string {
	sum := sha256.Sum256(body)
	return `W/"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
}

// hasEntity reports whether If-None-Match names the tag, by weak comparison (RFC 9110,
// 13.1.2).
func hasEntity(r *http.Request, tag string) bool {
	for _, line := range r.Header.Values("If-None-Match") {
		for have := range strings.SplitSeq(line, ",") {
			have = strings.TrimSpace(have)
			if have == "*" || strings.TrimPrefix(have, "W/") == strings.TrimPrefix(tag, "W/") {
				return true
			}
		}
	}
	return false
}
