package objects

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	_ "time/tzdata" // the container image and some hosts have no time zones

	"kcagent/sink"
	"kcagent/sink/template"
)

// Limits of keys, in bytes.
const (
	maxKey       = 1024 // of every store
	maxElement   = 255  // of a path, on every common file system
	maxTopic     = 249  // the longest name that Kafka allows
	maxExtension = len(".jsonl.zst")
)

// longest has the longest texts of all placeholders except {topic}: no month and no weekday has a
// longer name.
var longest = template.Values{
	Partition: 1<<31 - 1, First: 1<<63 - 1, Last: 1<<63 - 1, TopicID: "xxxxxxxx",
	Time: time.Date(2023, time.September, 27, 22, 58, 58, 0, time.UTC), // a Wednesday
}

// notOffered are placeholders that users of other programs expect, with the reason or the
// placeholder to use.
var notOffered = map[string]string{
	"key":       "an object holds all records of a range, which have different keys; use {partition}, which all records of a key share",
	"value":     "an object holds all records of a range, which have different values; use {topic} and {time:LAYOUT}",
	"header":    "an object holds all records of a range, which have different headers; use {topic} and {time:LAYOUT}",
	"offset":    "use {first} and {last}, the offsets of the range",
	"start":     "use {first}",
	"end":       "use {last}",
	"timestamp": "use {time:2006-01-02T15}, which formats the timestamp of the records as in Go",
	"date":      "use {time:2006-01-02}",
	"year":      "use {time:2006}",
	"month":     "use {time:01}",
	"day":       "use {time:02}",
	"hour":      "use {time:15}",
	"minute":    "use {time:04}",
	"ext":       "remove it: the extension is appended",
	"format":    "remove it: the extension is appended",
	"consumer":  "use {name}",
}

var placeholder = regexp.MustCompile(`\{([a-z_]*)[^{}]*\}`)

// checkKey checks the template of keys, with the time zone.
func (c *checker) checkKey(topics []string) {
	zone, err := time.LoadLocation(c.TimeZone)
	if err != nil || c.TimeZone == "Local" {
		c.report("time_zone", "unknown time zone "+strconv.Quote(c.TimeZone), "use UTC or a name of the IANA database, such as Europe/Berlin")
		zone = time.UTC
	}
	for _, m := range placeholder.FindAllStringSubmatch(c.Key, -1) {
		if reason := notOffered[m[1]]; reason != "" {
			c.report("key", "unknown placeholder "+m[0], reason)
			return
		}
	}
	key, err := template.Parse(c.Key, zone)
	if err != nil {
		bad := new(template.Error)
		if errors.As(err, &bad) {
			c.report("key", bad.Cause, bad.Hint)
		}
		return
	}
	c.checkPlaceholders(key)
	c.checkElements(key)
	c.checkLength(key, topics)
}

func (c *checker) checkPlaceholders(key *template.Template) {
	var missing []string
	for _, name := range []string{template.Topic, template.Partition, template.First} {
		if !key.Has(name) {
			missing = append(missing, "{"+name+"}")
		}
	}
	switch {
	case len(missing) > 0:
		c.report("key", "requires {topic}, {partition} and {first}, so that no two ranges have the same key", "add "+strings.Join(missing, " and "))
	case sameKey(key):
		c.report("key", "partition 1 of topic t1 and partition 11 of topic t have the same key", "separate {topic} and {partition}")
	case c.Delivery == sink.AtLeastOnce && !key.Has(template.Last):
		c.report("key", "requires {last} with delivery at_least_once: after a crash, a range that begins at the same offset can end at another one", "add {last}")
	case !key.Has(template.TopicID):
		c.found = append(c.found, Finding{
			Field: "key", Warning: true, Message: "has no {topic_id}: if a topic is deleted and created again, its objects have the keys of the former topic, and the partition stops before them",
			Hint: "add {topic_id}",
		})
	}
	if found := conversion.FindString(placeholder.ReplaceAllString(c.Key, "")); found != "" {
		c.found = append(c.found, Finding{Field: "key", Warning: true, Message: found + " is not expanded", Hint: "use {time:LAYOUT}, such as {time:2006-01-02}"})
	}
}

// conversion is what other programs replace by a part of a time.
var conversion = regexp.MustCompile(`%[A-Za-z]`)

// sameKey reports whether the number of a partition can continue the name of a topic.
func sameKey(key *template.Template) bool {
	a, errA := key.Render(template.Values{Name: "n", Topic: "t1", Partition: 1})
	b, errB := key.Render(template.Values{Name: "n", Topic: "t", Partition: 11})
	return errA == nil && errB == nil && a == b
}

// checkElements rejects keys that stores and folders write differently.
func (c *checker) checkElements(key *template.Template) {
	text, err := key.Render(template.Values{Name: "n", Topic: "t", TopicID: "xxxxxxxx"})
	if err != nil {
		c.report("key", err.Error(), "")
		return
	}
	switch e, bad := badElement(text); {
	case strings.HasPrefix(text, "/"):
		c.report("key", "begins with a slash", "remove it: the key continues url")
	case strings.HasSuffix(text, "/"):
		c.report("key", "ends with a slash: it names no object", "add a name such as {partition}-{first}-{last}-{topic_id}")
	case bad:
		c.report("key", "has "+e, "write it without empty elements, . and ..")
	case strings.ContainsRune(text, '\\'):
		c.report("key", "contains a backslash", "use slashes")
	}
}

// checkLength checks the longest key. In a folder, each element of the key is the name of a file or folder.
func (c *checker) checkLength(key *template.Template, topics []string) {
	v, unknown := longest, len(topics) == 0
	v.Name, v.Topic = "n", strings.Repeat("t", maxTopic)
	if !unknown {
		v.Topic = slices.MaxFunc(topics, func(a, b string) int { return len(a) - len(b) })
	}
	text, err := key.Render(v)
	if err != nil {
		return // a topic that is reported elsewhere
	}
	of := "topic " + v.Topic
	if unknown {
		of = fmt.Sprintf("a topic of %d characters", maxTopic)
	}
	if c.url.Scheme != File {
		n := len(text) + maxExtension
		if c.url.Prefix != "" {
			n += len(c.url.Prefix) + 1
		}
		if n > maxKey {
			c.report("key", fmt.Sprintf("keys of %s can have %d bytes with prefix and extension, more than %d", of, n, maxKey), "shorten key or the prefix in url")
		}
		return
	}
	if unknown {
		v.Topic = "t" // which topics there are is not known: a long one is an error of its partition
		text, _ = key.Render(v)
		of = "a topic of one character"
	}
	elements := strings.Split(text, "/")
	elements[len(elements)-1] += strings.Repeat("x", maxExtension)
	for _, e := range append(elements, strings.Split(c.url.Prefix, "/")...) {
		if len(e) > maxElement {
			c.report("key", fmt.Sprintf("keys of %s can have an element of %d bytes with extension, more than the %d of a file name", of, len(e), maxElement), "shorten it, for example with a folder for each topic: {topic}/{partition}-{first}-{last}-{topic_id}")
			return
		}
	}
}

// maxPlanSettings is how long the settings can be that the metadata of a commit holds, in bytes
// as they are escaped there. What the agent adds needs less than 1 KiB, so that a plan has at most
// 3 KiB.
const maxPlanSettings = 2 << 10

// checkPlan checks that the plan of a range fits into the metadata of a commit, which brokers limit
// to 4 KiB by default.
func (c *checker) checkPlan() {
	n := 0
	for _, s := range []string{c.URL, c.Endpoint, c.Region, c.Account, c.Key, c.TimeZone} {
		n += len(url.PathEscape(s))
	}
	if n > maxPlanSettings {
		c.report("key", fmt.Sprintf("url, key and the other settings that decide about keys have %d bytes in the commit metadata, more than %d", n, maxPlanSettings), "shorten url or key")
	}
}
