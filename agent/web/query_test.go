package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/lag"
	"kcagent/sink"
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

// A countedConsumer records what is read of a consumer.
type countedConsumer struct {
	shownConsumer
	reads map[string]int
}

func (c *countedConsumer) Snapshot() consumer.Snapshot {
	c.reads["partitions"]++
	return c.shownConsumer.Snapshot()
}

func (c *countedConsumer) Brief() consumer.Snapshot {
	c.reads["brief"]++
	return c.shownConsumer.Brief()
}

func (c *countedConsumer) TotalLag() lag.Lag {
	c.reads["lag"]++
	return c.shownConsumer.TotalLag()
}

func (c *countedConsumer) SinkObjects() sink.Objects {
	c.reads["objects"]++
	return c.shownConsumer.SinkObjects()
}

// TestUnselectedFieldsAreNotComputed: the partitions of a consumer are read only if they are
// shown, and consumers are not read at all if nothing depends on them.
func TestUnselectedFieldsAreNotComputed(t *testing.T) {
	for path, want := range map[string]string{
		"/status":         "map[partitions:3]",
		"/status?limit=1": "map[brief:2 partitions:1]", // the others for summary and config
		"/status?fields=consumers&limit=1&offset=1": "map[partitions:1]",
		"/status?fields=consumers.name":             "map[brief:3]",
		"/status?fields=consumers.lag,summary":      "map[brief:3 lag:3]",
		"/status?fields=consumers.partitions.lag":   "map[partitions:3]",
		"/status?fields=consumers.objects":          "map[brief:3 objects:1]", // the other sinks have none
		"/status?fields=summary":                    "map[brief:3]",
		"/status?fields=agent,resources,terminated": "map[]",
		"/list-consumers":                           "map[partitions:3]",
		"/list-consumers?fields=status&limit=2":     "map[brief:2]",
		"/status/b?fields=lag_seconds":              "map[brief:1 lag:1]",
		"/status/b":                                 "map[partitions:1]",
		"/readyz":                                   "map[brief:2]", // b is stopped
	} {
		a := newAPITest(t)
		publishThree(a)
		reads := make(map[string]int)
		for i := range a.published.Load().Rows {
			row := &a.published.Load().Rows[i]
			if row.Spec.Name == "c" {
				row.Spec.Sink = sink.Spec{Objects: &sink.ObjectsSpec{}}
			}
			row.Consumer = &countedConsumer{*row.Consumer.(*shownConsumer), reads}
		}
		if resp, body := get(t, a.Handler(), http.MethodGet, path); resp.StatusCode != http.StatusOK {
			t.Errorf("GET %s: %s %s", path, resp.Status, body)
		}
		if got := fmt.Sprint(reads); got != want {
			t.Errorf("GET %s reads %s, want %s", path, got, want)
		}
	}
}

// TestEachFieldAloneIsThatOfTheWhole: a field does not depend on which others are selected.
func TestEachFieldAloneIsThatOfTheWhole(t *testing.T) {
	a := newAPITest(t)
	a.publish("  - {name: a}", func(s *Snapshot) {
		c := s.Rows[0].Consumer.(*shownConsumer)
		c.Partitions = []consumer.PartitionSnapshot{{Topic: "t", Lag: lag.Lag{Records: new(int64(7)), Seconds: new(2.0), CatchUp: new(1.0)}}}
		c.Lag = c.Partitions[0].Lag
		s.Rows[0].Spec.Sink = sink.Spec{Objects: &sink.ObjectsSpec{}}
		c.Unpublished = holding(time.Now())
		c.Created, c.Since, c.LastRecord, c.LastFlush = time.Now(), time.Now(), time.Now(), time.Now()
		c.Records, c.Bytes, c.RecordsPerSecond, c.Rebalances, c.Restarts = 1, 2, 3, 4, 5
		c.SkippedKeys, c.DeadLetters = 7, 8
		c.Fault, c.MemberID, c.Generation = "fault", "member", 6
		c.Errors = []consumer.RecentError{{At: time.Now(), Text: "fault", Count: 2}, {At: time.Now(), Text: "older", Count: 1}}
	})
	h := a.Handler()
	var whole map[string]json.RawMessage
	_, body := get(t, h, http.MethodGet, "/list-consumers?fields="+strings.Join(consumerFields.Names(), ","))
	if err := json.Unmarshal([]byte(strings.Trim(body, "[]\n")), &whole); err != nil {
		t.Fatal(err)
	}
	for _, name := range consumerFields.Names() {
		value := whole[name]
		if empty := strings.Contains("null [] 0", string(value)); empty && name != "topics_regex" && name != "pending_change" && name != "cluster" {
			t.Errorf("%s is %s: give it a value in this test", name, value)
		}
		want := "{" + strconv.Quote(name) + ":" + string(value) + "}\n"
		if value == nil {
			want = "{}\n"
		}
		if _, got := get(t, h, http.MethodGet, "/status/a?fields="+name); got != want {
			t.Errorf("%s alone is %s, want %s", name, got, want)
		}
	}
}

// TestConsumersArePaged: limit and offset select consumers in the order of the file. A header
// has the number of all consumers, and the summary covers all of them.
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
