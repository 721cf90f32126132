package agent

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"kcagent/config"
	"kcagent/sink"
)

// BenchmarkEdit is one edit of a file with a thousand consumers, from its text until its
// changes are started and published.
func BenchmarkEdit(b *testing.B) {
	const limit = 150 * time.Millisecond
	for name, field := range map[string]string{"update": "flush: {interval: %ds}", "replace": "group: g%d"} {
		b.Run(name, func(b *testing.B) {
			a := New(Options{Log: slog.New(slog.DiscardHandler)})
			a.newRunner = func(spec *config.Consumer) runner { return newFakeRunner(spec) }
			a.preCheck = func(_ context.Context, specs []config.Consumer, _ []sink.Spec, report func(int, error)) {
				for i := range specs {
					report(i, nil)
				}
			}
			ctx, cancel := context.WithCancel(b.Context())
			updates, done := make(chan config.Update), make(chan error)
			go func() { done <- a.Run(ctx, updates) }()
			n := 0
			edit := func() {
				n++
				c, problems := config.Parse("consumers.yaml", thousand(fmt.Sprintf(field, n)), func(string) (string, bool) { return "", false })
				updates <- config.Update{Config: c, Problems: problems}
				if !a.Alive(time.Minute) { // the loop responds after the round
					b.Fatal("the loop does not respond")
				}
			}
			edit()
			for b.Loop() {
				edit()
			}
			if each := b.Elapsed() / time.Duration(b.N); each > limit {
				b.Errorf("an edit takes %s, the limit is %s", each, limit)
			}
			cancel()
			if err := <-done; err != nil {
				b.Error(err)
			}
		})
	}
}

// thousand returns a file with a thousand consumers, one of which has this field.
func thousand(field string) []byte {
	var text strings.Builder
	text.WriteString("clusters:\n  main: {brokers: ['a:1', 'b:1'], sasl: {mechanism: PLAIN, username: u, password: p}}\nconsumers:\n")
	for i := range 1000 {
		more := ""
		if i == 500 {
			more = ", " + field
		}
		fmt.Fprintf(&text, "- {name: c%[1]d, cluster: main, topics: [t%[1]d, u], sink: {file: {path: '/data/{name}.log', format: json, rotate: {size: 1GiB}}}%[2]s}\n", i, more)
	}
	return []byte(text.String())
}
