package docs

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"kcagent/agent/web"
)

// An endpoint is one path of the HTTP API.
type endpoint struct {
	path    string
	alias   string // the path in the REST service that kcagent replaces; "" if it has none
	example string // the path to request in the test, if it has parameters
	shows   string
	content string // the content type; "" for JSON
	others  []answer
}

// An answer is a status code besides 200.
type answer struct {
	status  int
	meaning string
}

var endpoints = []endpoint{
	{path: "/", shows: "the [page](operations.md#the-page) for people, which updates itself", content: "text/html"},
	{path: "/assets/{file}", example: "/assets/page.css", shows: "the style sheets, scripts and icons of the page", content: "text/css", others: []answer{{404, "no file has this name"}}},
	{path: "/status", shows: "the agent, the configuration, resources, and every consumer with its partitions"},
	{path: "/status/{name}", example: "/status/orders", shows: "one consumer, as in `consumers` of `/status`", others: []answer{{404, "no consumer has this name"}}},
	{path: "/list-consumers", shows: "`consumers` of `/status`, as an array"},
	{path: "/threads", alias: "/monitor-threads", shows: "goroutines by consumer, and zombies"},
	{path: "/config", shows: "the applied configuration with all defaults", others: []answer{{503, "no configuration is in force yet"}}},
	{path: "/config/diff", shows: "what the file as last read changes in the text of the file in force", others: []answer{{503, "no configuration is in force yet"}}},
	{path: "/metrics", shows: "the [metrics](metrics.md), in the Prometheus or, if requested, the OpenMetrics format", content: "text/plain", others: []answer{{503, "four scrapes are in progress already"}}},
	{path: "/healthz", shows: "`{\"status\": \"ok\"}` while the agent's loop responds; no single consumer can make it fail", others: []answer{{503, "the loop does not respond within 2 s"}}},
	{path: "/readyz", shows: "`{\"status\": \"ready\"}` once a valid file is applied and every consumer has left `STARTING` once", others: []answer{{503, "not ready yet"}}},
}

// A parameter is one that the queries of some paths may have.
type parameter struct {
	name, paths, meaning string
	valid, invalid       string // requests for the test
}

var parameters = []parameter{
	{
		"fields", "`/status`, `/status/{name}`, `/list-consumers`",
		"Names of fields, separated by commas: only these are shown, as compact JSON. For `/status` use the names of the table below without `[]`, such as `summary,consumers.name,consumers.lag`; for the other paths they are those of a consumer, such as `name,lag`.",
		"/status?fields=summary,consumers.name", "/status?fields=nme",
	},
	{
		"limit", "`/status`, `/list-consumers`", "Maximum number of consumers to show; `summary` and `config` concern all of them.",
		"/status?limit=1", "/status?limit=ten",
	},
	{
		"offset", "`/status`, `/list-consumers`", "Number of consumers to leave out before the first one that is shown.",
		"/list-consumers?offset=1&limit=1", "/list-consumers?offset=-1",
	},
}

// httpPage is the reference of the HTTP API. It requests each endpoint from a running agent.
func httpPage(t *testing.T, a demoAgent) string {
	checkEndpoints(t, a)
	checkParameters(t, a)
	checkRoutes(t)
	var b strings.Builder
	b.WriteString(generated)
	b.WriteString(httpIntro)
	b.WriteString("\n## Endpoints\n\n| path | content | shows | other status codes |\n|---|---|---|---|\n")
	for _, e := range endpoints {
		path := "`" + e.path + "`"
		if e.alias != "" {
			path += ", `" + e.alias + "`"
		}
		content := "JSON"
		if e.content != "" {
			content = "`" + e.content + "`"
		}
		var others []string
		for _, o := range e.others {
			others = append(others, fmt.Sprintf("%d: %s", o.status, o.meaning))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", path, content, e.shows, strings.Join(others, "; "))
	}
	b.WriteString(parametersIntro)
	for _, p := range parameters {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", p.name, p.paths, p.meaning)
	}
	b.WriteString("\n## /status\n\n" + statusIntro)
	writeFields(&b, reflect.TypeFor[web.Status]())
	b.WriteString("\n## /threads\n")
	writeFields(&b, reflect.TypeFor[web.Threads]())
	b.WriteString(configFields)
	b.WriteString("\n## /config/diff\n")
	writeFields(&b, reflect.TypeFor[web.ConfigDiff]())
	return b.String()
}

func checkEndpoints(t *testing.T, a demoAgent) {
	t.Helper()
	for _, e := range endpoints {
		for _, path := range []string{e.path, e.alias} {
			if e.example != "" {
				path = e.example
			}
			if path == "" {
				continue
			}
			r, want := a.get(t, path), e.content
			if want == "" {
				want = "application/json"
			}
			if got := r.header.Get("Content-Type"); r.status != http.StatusOK || !strings.HasPrefix(got, want) {
				t.Errorf("GET %s: status %d, content type %s, want 200 and %s", path, r.status, got, want)
			}
			if post := a.request(t, http.MethodPost, path); post.status != http.StatusMethodNotAllowed {
				t.Errorf("POST %s: status %d, want 405", path, post.status)
			}
		}
	}
	for _, path := range []string{"/status/nobody", "/nowhere"} {
		var body struct{ Error string }
		r := a.get(t, path)
		if err := json.Unmarshal([]byte(r.body), &body); err != nil || r.status != http.StatusNotFound || body.Error == "" {
			t.Errorf("GET %s: status %d, body %s", path, r.status, r.body)
		}
	}
}

func checkParameters(t *testing.T, a demoAgent) {
	t.Helper()
	for _, p := range parameters {
		if r := a.get(t, p.valid); r.status != http.StatusOK || r.header.Get("X-Total-Count") != "4" {
			t.Errorf("GET %s: status %d, headers %v", p.valid, r.status, r.header)
		}
		if r := a.get(t, p.invalid); r.status != http.StatusBadRequest || !strings.Contains(r.body, `"error"`) {
			t.Errorf("GET %s: status %d, body %s", p.invalid, r.status, r.body)
		}
	}
}

// checkRoutes finds the paths that the handler serves in its source: each must be an
// endpoint of the page.
func checkRoutes(t *testing.T) {
	t.Helper()
	route := regexp.MustCompile(`\.Handle(?:Func)?\("(?:GET )?(/[^"]*)"`)
	found := false
	for path, source := range sources(t, "agent") {
		for _, m := range route.FindAllStringSubmatch(source, -1) {
			found = true
			name := strings.TrimSuffix(m[1], "{$}")
			known := slices.ContainsFunc(endpoints, func(e endpoint) bool { return e.path == name || e.alias == name })
			if !known {
				t.Errorf("%s serves %s: add it to endpoints", path, m[1])
			}
		}
	}
	if !found {
		t.Error("the source serves no paths: adapt the pattern")
	}
}

const httpIntro = `# The HTTP API

The API is read-only: the configuration file is the only control. It accepts GET and HEAD; other methods get 405. Responses are JSON, and may have further fields in later versions.

- An error is ` + "`{\"error\": \"…\"}`" + `. An unknown path gets 404. If the agent cannot produce a response, the status is 500.
- Responses from 1 KiB are compressed with gzip if ` + "`Accept-Encoding`" + ` allows it.
- A response has a weak ` + "`ETag`" + `, which depends on its content alone, and ` + "`Cache-Control: no-cache`" + `. A request whose ` + "`If-None-Match`" + ` names this tag gets 304 without a body. The field ` + "`resources`" + ` of ` + "`/status`" + ` changes with each request, so select fields without it. ` + "`/metrics`" + ` has no tag.
- Times are RFC 3339, with the time zone of the host. Sizes are bytes.
- The API listens on ` + "`--listen`, `127.0.0.1:8080`" + ` by default, without TLS and authentication. ` + "`--web.config.file`" + ` adds both, as in Prometheus exporters.
- Clients share an eighth of the files that the agent may open. At the limit the agent closes the connection that has been idle for the longest time, so idle clients cannot block a health check.
- At most four requests are processed at a time, and as many scrapes of ` + "`/metrics`" + ` beside them. Further requests wait for up to 2 s, on at most a quarter of the connections, and then get 503 with ` + "`Retry-After`" + `. ` + "`/healthz` and `/readyz`" + ` are never limited.
- A client that does not send its request within 5 s, or reads less than 64 KiB of a response within 5 s, is disconnected. At the limit of connections, one that sends nothing for 100 ms is disconnected in favour of another client.
`

const parametersIntro = `
## Parameters

` + "`curl 'http://127.0.0.1:8080/status?fields=summary,consumers.name,consumers.lag&limit=100'`" + ` shows the summary, and the names and lags of the first 100 consumers. The header ` + "`X-Total-Count`" + ` of ` + "`/status` and `/list-consumers`" + ` is the number of all consumers. An unknown field or an invalid number gets 400, and the error lists what is valid. Unknown parameters are ignored.

| parameter | paths | meaning |
|---|---|---|
`

const statusIntro = "[status.schema.json](status.schema.json) is the JSON Schema. All fields are always present, except those that are marked as optional.\n"

const configFields = `
## /config

| field | type | meaning |
|---|---|---|
| ` + "`path`" + ` | text | Path of the configuration file. |
| ` + "`sha256`" + ` | text | SHA-256 of the file whose content is in force, in hex. |
| ` + "`config`" + ` | object | The configuration with the keys of the [file](configuration.md), all defaults filled in. Secrets are shown as ` + "`<secret>`" + `. |
| ` + "`seals`" + ` | object, optional | By cluster, a slow salted hash (PBKDF2-HMAC-SHA256) of its secret, which ` + "`kcagent plan`" + ` uses to compare passwords. |
`
