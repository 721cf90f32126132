package web

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"kcagent/agent/consumer"
)

// publishThree publishes the consumers a, b and c, with a partition each.
func publishThree(a *apiTest) {
	a.publish("  - {name: a}\n  - {name: b, state: stopped}\n  - {name: c}", func(s *Snapshot) {
		for i := range s.Rows {
			s.Rows[i].Consumer.(*shownConsumer).Partitions = []consumer.PartitionSnapshot{{Topic: "t"}}
		}
	})
}

// TestFieldsSelectWhatIsShown: only the selected fields are in the response, which is compact
// then. Without fields it is indented and has all of them.
func TestFieldsSelectWhatIsShown(t *testing.T) {
	a := newAPITest(t)
	publishThree(a)
	h := a.Handler()
	for path, want := range map[string]string{
		"/status?fields=summary":                                `{"summary":{"CREATED":1,"RUNNING":2}}`,
		"/status?fields=consumers.name":                         `{"consumers":[{"name":"a"},{"name":"b"},{"name":"c"}]}`,
		"/status?fields=consumers.name,summary,consumers.group": `{"summary":{"CREATED":1,"RUNNING":2},"consumers":[{"name":"a","group":"kcagent-a"},{"name":"b","group":"kcagent-b"},{"name":"c","group":"kcagent-c"}]}`,
		"/status?fields=config.state&fields=summary":            `{"config":{"state":"synced"},"summary":{"CREATED":1,"RUNNING":2}}`,
		"/status?fields=consumers.partitions.topic&limit=1":     `{"consumers":[{"partitions":[{"topic":"t"}]}]}`,
		"/status?fields=terminated&unknown=ignored":             `{"terminated":[]}`,
		"/status?fields=consumers.topics_regex&limit=1":         `{"consumers":[{}]}`,
		"/status/b?fields=name,status":                          `{"name":"b","status":"CREATED"}`,
		"/list-consumers?fields=name&offset=1":                  `[{"name":"b"},{"name":"c"}]`,
	} {
		if resp, body := get(t, h, http.MethodGet, path); resp.StatusCode != http.StatusOK || body != want+"\n" {
			t.Errorf("GET %s: %s %s, want %s", path, resp.Status, body, want)
		}
	}
	for _, path := range []string{"/status", "/status?limit=5", "/list-consumers", "/status/a"} {
		_, body := get(t, h, http.MethodGet, path)
		if !strings.HasPrefix(body, "{\n  \"") && !strings.HasPrefix(body, "[\n  {") || !strings.Contains(body, `"partitions": [`) {
			t.Errorf("GET %s is not indented and complete: %s", path, body)
		}
	}
}

// TestConsumersArePaged: limit and offset select consumers in the order of the file, and the
// number of all of them is known. The summary and the state of the file are those of all.
func TestConsumersArePaged(t *testing.T) {
	a := newAPITest(t)
	publishThree(a)
	published := *a.published.Load()
	published.Rows = slices.Clone(published.Rows)
	published.Rows[2].Ending = true
	a.published.Store(&published)
	h := a.Handler()
	for query, want := range map[string]string{
		"": "a b c", "?limit=2": "a b", "?limit=2&offset=1": "b c", "?offset=2&limit=9": "c", "?offset=3": "", "?limit=0": "",
		"?offset=9223372036854775807&limit=9223372036854775807": "",
	} {
		for _, path := range []string{"/status", "/list-consumers"} {
			resp, body := get(t, h, http.MethodGet, path+query)
			if got := resp.Header.Get("X-Total-Count"); got != "3" {
				t.Errorf("GET %s%s: the number of all consumers is %q", path, query, got)
			}
			var status struct {
				Config    ConfigStatus
				Summary   map[string]int
				Consumers []struct{ Name string }
			}
			if path == "/status" {
				if err := json.Unmarshal([]byte(body), &status); err != nil {
					t.Fatal(err)
				}
				if status.Summary["RUNNING"] != 2 || status.Config.State != "applying" {
					t.Errorf("GET %s%s: summary %v, state %s", path, query, status.Summary, status.Config.State)
				}
			} else if err := json.Unmarshal([]byte(body), &status.Consumers); err != nil {
				t.Fatal(err)
			}
			if status.Consumers == nil {
				t.Errorf("GET %s%s: consumers is null", path, query)
			}
			names := []string{}
			for _, c := range status.Consumers {
				names = append(names, c.Name)
			}
			if got := strings.Join(names, " "); got != want {
				t.Errorf("GET %s%s shows %q, want %q", path, query, got, want)
			}
		}
	}
}

// TestInvalidQueriesAreExplained with 400 and what to write instead.
func TestInvalidQueriesAreExplained(t *testing.T) {
	a := newAPITest(t)
	publishThree(a)
	h := a.Handler()
	for path, want := range map[string]string{
		"/status?fields=nme":                                `unknown field "nme": use one or more of agent, config, summary, resources, consumers, terminated`,
		"/status?fields=":                                   `unknown field "": use one or more of agent, config`,
		"/status?fields=consumers.nme":                      `unknown field "consumers.nme": use one or more of consumers.id, consumers.name, consumers.status`,
		"/status/a?fields=consumers.lag":                    `unknown field "consumers.lag": use one or more of id, name, status`,
		"/list-consumers?fields=nme":                        `unknown field "nme": use one or more of id, name, status`,
		"/status?limit=ten":                                 `invalid limit "ten": use a number of consumers such as 100`,
		"/status?limit=-1":                                  `invalid limit "-1": use a number of consumers such as 100`,
		"/list-consumers?offset=":                           `invalid offset "": use a number of consumers such as 100`,
		"/status?offset=9223372036854775808&fields=summary": `invalid offset "9223372036854775808"`,
		"/status?fields=%zz":                                `invalid query: escape it as a URL, such as /status?fields=summary,consumers.name`,
	} {
		resp, body := get(t, h, http.MethodGet, path)
		var e struct{ Error string }
		if err := json.Unmarshal([]byte(body), &e); err != nil || resp.StatusCode != http.StatusBadRequest || !strings.HasPrefix(e.Error, want) {
			t.Errorf("GET %s: %s %s, want 400 and %s", path, resp.Status, body, want)
		}
	}
}
