package objects_test

import (
	"math"
	"net/url"
	"strings"
	"testing"

	"kcagent/agent/offsets"
	"kcagent/config/objects"
	"kcagent/leader"
	"kcagent/sink"
	objectsink "kcagent/sink/objects"
)

// longest returns the longest block that Check accepts.
func longest(t *testing.T) (spec sink.ObjectsSpec, escaped int) {
	t.Helper()
	plan := func(prefix string) (s sink.ObjectsSpec, accepted bool) {
		s = sink.ObjectsSpec{
			URL: "s3://" + strings.Repeat("b", 63) + "/" + prefix, Endpoint: "https://" + strings.Repeat("minio.", 10) + "example.com:9000",
			Region: "eu-central-1", PathStyle: true, TimeZone: "America/Argentina/ComodRivadavia", Rotate: sink.ObjectRotate{Size: 64 << 10, Every: 1e9},
		}
		objects.Normalise(&s, "c")
		return s, len(objects.Check(s, []string{"t"})) == 0
	}
	prefix := strings.Repeat(" ", 400)
	for { // a space is escaped as three characters
		s, accepted := plan(prefix + " ")
		if !accepted {
			break
		}
		prefix, spec = prefix+" ", s
		if len(prefix) > 3000 {
			t.Fatal("a prefix of 3000 bytes is accepted")
		}
	}
	for _, s := range []string{spec.URL, spec.Endpoint, spec.Region, spec.Account, spec.Key, spec.TimeZone} {
		escaped += len(url.PathEscape(s))
	}
	return spec, escaped
}

// TestLongestPlanFitsIntoTheMetadata: with the longest settings that Check accepts, and the longest
// values of the agent, the metadata of a commit has 3 KiB at most. Brokers accept 4 KiB by default.
func TestLongestPlanFitsIntoTheMetadata(t *testing.T) {
	spec, escaped := longest(t)
	if escaped < 2<<10-3 {
		t.Errorf("only %d bytes of settings are accepted", escaped)
	}
	settings := objectsink.PlanSettings(spec)
	for key, value := range map[string]string{"isolation": "read_uncommitted", "decode.key": "json", "decode.value": "json", "onerror": "dead_letter"} {
		settings[key] = value
	}
	nonce := strings.Repeat("N", 26)
	m := offsets.Metadata{
		Lineage: strings.Repeat("L", 26), Topic: sink.Identity{Cluster: strings.Repeat("c", 36), Topic: strings.Repeat("t", 22)},
		Partitions: math.MaxInt32, EarlyStart: true, Nonce: nonce,
		Plan: &sink.Plan{Nonce: nonce, First: math.MaxInt64 - 1, Next: math.MaxInt64, Epoch: leader.NewEpoch(math.MaxInt32), Records: math.MaxInt64, Settings: settings},
	}
	if n := len(m.String()); n > 3<<10 || n <= escaped {
		t.Errorf("the metadata has %d bytes, with %d bytes of settings", n, escaped)
	}
}
