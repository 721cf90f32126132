package config

import (
	"os"
	"path/filepath"
	"strings"

	"kcagent/sink"
)

// defaultKey is a layout that query engines read as partitions by day and hour.
const defaultKey = "{topic}/dt={time:2006-01-02}/hour={time:15}/{topic}-{partition}-{first}-{last}-{topic_id}"

// normaliseObjects sets the defaults of an objects sink of the consumer with this name.
func normaliseObjects(o *sink.ObjectsSpec, name string) {
	setDefault(&o.Key, defaultKey)
	setDefault(&o.TimeZone, "UTC")
	setDefault(&o.Format, sink.JSON)
	setDefault(&o.Compression, sink.Zstd)
	setDefault(&o.Delivery, sink.ExactlyOnce)
	setDefault(&o.Spool, filepath.Join(os.TempDir(), "kcagent-spool"))
	for _, text := range []*string{&o.URL, &o.Key, &o.Spool} {
		*text = strings.ReplaceAll(*text, "{name}", name)
	}
	o.URL = withoutSlash(o.URL)
	o.Endpoint = withoutSlash(o.Endpoint)
	o.Spool = filepath.Clean(o.Spool)
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
