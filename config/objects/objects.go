// Package objects has the defaults and the rules of the block sink.objects of the configuration
// file. It does not depend on YAML: [Check] returns what is wrong, and package config adds the
// position.
//
// A further key is a field of [sink.ObjectsSpec], its default in [Normalise], and its rule in
// Check.
package objects

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"kcagent/sink"
	"kcagent/sink/template"
)

// A Finding is a mistake in the block.
type Finding struct {
	Field   string // the key below sink.objects, such as credentials.access_key_file
	Message string
	Hint    string // the next step; "" if there is none
	Warning bool   // the block is valid, but probably not what the user wants
}

// DefaultKey lays objects out by topic, day and hour. Query engines read dt and hour as columns.
const DefaultKey = "{topic}/dt={time:2006-01-02}/hour={time:15}/{topic}-{partition}-{first}-{last}-{topic_id}"

// Normalise sets the defaults of the block of the consumer with this name. Two blocks that mean
// the same are deeply equal afterwards.
func Normalise(o *sink.ObjectsSpec, name string) {
	for _, d := range []struct {
		text  *string
		value string
	}{
		{&o.Key, DefaultKey},
		{&o.TimeZone, "UTC"},
		{(*string)(&o.Format), string(sink.JSON)},
		{(*string)(&o.Compression), string(sink.Zstd)},
		{(*string)(&o.Delivery), string(sink.ExactlyOnce)},
	} {
		if *d.text == "" {
			*d.text = d.value
		}
	}
	for _, text := range []*string{&o.URL, &o.Key, &o.Spool} {
		*text = strings.ReplaceAll(*text, "{name}", name)
	}
	o.URL, o.Endpoint = withoutSlash(o.URL), withoutSlash(o.Endpoint)
	if o.Spool != "" { // the default depends on the environment, so the sink sets it
		o.Spool = filepath.Clean(o.Spool)
	}
	if o.TLS != nil && *o.TLS == (sink.ObjectsTLS{}) {
		o.TLS = nil
	}
	if len(o.Tags) == 0 {
		o.Tags = nil
	}
}

// withoutSlash removes the slashes at the end of a URL, except those of file:///.
func withoutSlash(url string) string {
	if short := strings.TrimRight(url, "/"); !strings.HasSuffix(short, ":") {
		return short
	}
	return url
}

// A checker collects the findings of one block.
type checker struct {
	sink.ObjectsSpec
	url   URL
	found []Finding
}

func (c *checker) report(field, message, hint string) {
	c.found = append(c.found, Finding{Field: field, Message: message, Hint: hint})
}

// Check returns what is wrong with a normalised block. topics are the topics of the
// consumer; nil means any topic.
func Check(o sink.ObjectsSpec, topics []string) []Finding {
	c := &checker{ObjectsSpec: o}
	var bad *Finding
	if c.url, bad = ParseURL(o.URL); bad != nil {
		c.found = append(c.found, *bad)
	} else {
		c.checkProvider()
	}
	c.checkEndpoint()
	c.checkCredentials()
	c.checkKey(topics)
	c.checkLimits()
	c.checkSpool()
	c.checkPlan()
	return c.found
}

func (c *checker) checkLimits() {
	if s := c.Rotate.Size; s < minSize || s > maxSize {
		c.report("rotate.size", fmt.Sprintf("invalid size %s: must be from %s to %s", s, minSize, maxSize), "")
	}
	if d := c.Rotate.Every; d < minEvery || d > maxEvery {
		c.report("rotate.every", fmt.Sprintf("invalid duration %s: must be from %s to %s", d, minEvery, maxEvery), "")
	}
}

// Limits of the rotation.
const (
	minSize, maxSize   = sink.Size(64 << 10), sink.Size(1 << 40)
	minEvery, maxEvery = time.Second, 366 * 24 * time.Hour
)

// checkSpool rejects a folder that depends on the working directory, and one that the objects
// share: the sink deletes files that it finds in the spool, and readers would find its files.
func (c *checker) checkSpool() {
	spool := c.Spool
	switch {
	case spool == "":
	case strings.ContainsAny(spool, "{}"):
		c.report("spool", "unknown placeholder in "+spool, "use {name}, which is the name of the consumer")
	case strings.ContainsRune(spool, 0):
		c.report("spool", "contains a zero byte", "")
	case !filepath.IsAbs(spool):
		c.report("spool", "relative path "+spool+": the folder would depend on the working directory", "write an absolute path such as /var/lib/kcagent/spool")
	case spool == "/":
		c.report("spool", "the root folder cannot be the spool", "use a folder of its own, such as /var/lib/kcagent/spool")
	case c.url.Scheme == File && (within(spool, c.url.Prefix) || within(c.url.Prefix, spool)):
		c.report("spool", "the spool "+spool+" and the folder of url cannot contain each other", "use a folder outside "+c.url.Prefix)
	}
}

// within reports whether a path is a folder or below it.
func within(path, folder string) bool {
	rest, ok := strings.CutPrefix(path, folder)
	return ok && (rest == "" || rest[0] == '/')
}

// Paths returns the destination of the objects and the elements of the paths that they can have
// there, with the topics filled in if they are known. It returns none if the block has mistakes
// that Check reports.
func Paths(o sink.ObjectsSpec, topics []string) (destination string, paths [][]string) {
	u, bad := ParseURL(o.URL)
	if bad != nil {
		return "", nil
	}
	prefix := strings.TrimPrefix(u.Prefix, "/")
	if prefix != "" {
		prefix += "/"
	}
	keys := []string{o.Key}
	if len(topics) > 0 && strings.Contains(o.Key, "{topic}") {
		keys = nil
		for _, t := range topics {
			keys = append(keys, strings.ReplaceAll(o.Key, "{topic}", t))
		}
	}
	for _, k := range keys {
		if key, err := template.Parse(prefix+k, nil); err == nil {
			paths = append(paths, key.Elements())
		}
	}
	return strings.Join([]string{u.Scheme, o.Endpoint, o.Account, u.Bucket}, "\n"), paths
}

// Overlap reports whether two normalised blocks could give two objects the same key, each with any of
// its topics; nil topics mean any topic.
func Overlap(a sink.ObjectsSpec, topicsA []string, b sink.ObjectsSpec, topicsB []string) bool {
	destinationA, pathsA := Paths(a, topicsA)
	destinationB, pathsB := Paths(b, topicsB)
	if destinationA != destinationB {
		return false
	}
	for _, p := range pathsA {
		for _, q := range pathsB {
			if meet(p, q) {
				return true
			}
		}
	}
	return false
}

// meet reports whether two paths could be the same.
func meet(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && !template.Overlap(a[i], b[i]) {
			return false
		}
	}
	return true
}
