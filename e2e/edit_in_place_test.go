package e2e

import (
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
)

// TestInPlaceEditsKeepTheMember edits every setting that is updated in place, while
// records arrive. The member stays in its generation, and no record is lost or repeated.
func TestInPlaceEditsKeepTheMember(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "update", 2)
	e := s.entry("subject", topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	a.WaitState("subject", "RUNNING")
	stop, produced := s.keepProducing(t, topic, 2)
	a.WaitConsumer("subject", "read", func(c agenttest.Consumer) bool { return c.RecordsTotal > 0 })
	was := identify(t, a.Consumer("subject"))

	renamed := func(text string) string {
		text = strings.ReplaceAll(text, "  main: {", "  renamed: {")
		return strings.ReplaceAll(text, "cluster: main", "cluster: renamed")
	}
	fetch := func(text string) string {
		return strings.Replace(text, "  main: {", "  main: {fetch: {lanes: 1, max_bytes: 1MiB, max_wait: 50ms}, ", 1)
	}
	for _, edit := range []struct {
		what string
		text string
	}{
		{"flush", s.config(e.withFlush("{interval: 50ms, bytes: 1KiB}"))},
		{"rotate", s.config(e.withSink("rotate: {size: 20KiB}"))},
		{"compression", s.config(e.withSink("rotate: {size: 20KiB}, compression: zstd"))},
		{"compression back", s.config(e.withSink("compression: none"))},
		{"durability", s.config(e.withSink("durability: none"))},
		{"mode", s.config(e.withSink(`mode: "0600", rotate: {size: 20KiB}`))},
		{"max_partition_bytes", s.config(e.with("max_partition_bytes: 64KiB"))},
		{"fetch", fetch(s.config(e))},
		{"rack", strings.Replace(s.config(e), "  main: {", "  main: {rack: rack-1, ", 1)},
		{"cluster's name", renamed(s.config(e))},
		{"everything back", s.config(e)},
	} {
		before := a.Consumer("subject").RecordsTotal
		a.Apply(edit.text)
		a.WaitConsumer("subject", "continue after an edit of "+edit.what, func(c agenttest.Consumer) bool {
			return c.RecordsTotal > before+200
		})
		wantSame(t, a, "subject", was)
		if strings.Contains(a.Log(), "action=replace") {
			t.Fatalf("an edit of %s was not applied in place", edit.what)
		}
	}
	stop()
	n := produced()
	s.waitCommitted(t, a, e, int64(2*n))
	files := allFiles(t, e.path)
	if len(files) < 4 {
		t.Errorf("only %v were written, so rotate had no effect", files)
	}
	readTrail(t, files...).wantExact(t, topic, 2, n)
	if strings.Contains(a.Log(), "state changed\" consumer=subject from=RUNNING") {
		t.Error("the consumer left RUNNING")
	}
	stopAgent(t, a)
}
