package client

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestErrorsSayWhatToWrite: each error is one line without the password, with the next step.
func TestErrorsSayWhatToWrite(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/private/status":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/prefix/status":
			_, _ = w.Write([]byte("{}"))
		case r.URL.Path == "/status":
			_, _ = w.Write([]byte("<html>"))
		default:
			http.NotFound(w, r)
		}
	})
	plain, encrypted := httptest.NewServer(handler), httptest.NewUnstartedServer(handler)
	defer plain.Close()
	encrypted.Config.ErrorLog = log.New(io.Discard, "", 0) // reports the failed handshakes
	encrypted.StartTLS()
	defer encrypted.Close()
	at := func(server *httptest.Server, path string) string {
		return strings.Replace(server.URL, "//", "//user:swordfish@", 1) + path
	}
	for address, want := range map[string]string{
		"localhost:8080":                    `invalid --url "localhost:8080": use http://localhost:8080`,
		"127.0.0.1:9000":                    `invalid --url "127.0.0.1:9000": use http://127.0.0.1:9000`,
		":9000":                             `invalid --url ":9000": use http://127.0.0.1:9000`,
		"9000":                              `invalid --url "9000": use http://127.0.0.1:9000`,
		"nonsense":                          `invalid --url "nonsense": use one such as http://127.0.0.1:8080`,
		"":                                  `invalid --url "": use one such as http://127.0.0.1:8080`,
		"user:swordfish@host:80":            "invalid --url: use one such as http://127.0.0.1:8080",
		"ftp://user:swordfish@host":         `invalid --url "ftp://user:xxxxx@host": use one such as http://127.0.0.1:8080`,
		"http://":                           `invalid --url "http:": use one such as http://127.0.0.1:8080`,
		"http://user:swordfish@host:port":   "invalid --url: use one such as http://127.0.0.1:8080",
		"http://user:swordfish@host:99999":  `invalid --url "http://user:xxxxx@host:99999": the port must be from 1 to 65535`,
		"http://user:swordfish@host/?a=b":   `invalid --url "http://user:xxxxx@host/?a=b": remove what follows the path`,
		"http://user:swordfish@127.0.0.1:1": "reach the agent at http://user:xxxxx@127.0.0.1:1: connection refused; check that it runs, and that --url is its address",
		"http://no-such-host.invalid":       "reach the agent at http://no-such-host.invalid: look up no-such-host.invalid: ",
		at(plain, "/nowhere"):               "status 404 Not Found; check that --url is the address of an agent, without the path of a page",
		at(plain, "/private/"):              "/private/status: status 401 Unauthorized; check user and password in --url",
		plain.URL + "/private/":             "/private/status: status 401 Unauthorized; write user and password into --url, as in http://USER:PASSWORD@HOST:PORT",
		at(plain, ""):                       "not the response of an agent; check --url",
		at(plain, "/prefix/"):               "",
		at(plain, "/prefix"):                "",
		strings.Replace(at(plain, ""), "http:", "https:", 1):     "it does not use TLS; write http:// in --url",
		strings.Replace(at(encrypted, ""), "https:", "http:", 1): "the agent uses TLS; write https:// in --url",
		at(encrypted, ""): "certificate signed by unknown authority; set the environment variable SSL_CERT_FILE to the certificate of its authority",
	} {
		c, err := New(address)
		if err == nil {
			err = c.Decode(t.Context(), "/status?fields=summary", new(struct{}))
		}
		got := ""
		if err != nil {
			got = err.Error()
		}
		if (want == "") != (got == "") || !strings.Contains(got, want) || strings.ContainsAny(got, "\n") || strings.Contains(got, "swordfish") {
			t.Errorf("%s: got\n%s\nwant an error with\n%s\nand without the password", address, got, want)
		}
	}
}
