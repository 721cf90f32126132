package page

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/browser"
)

// TestShowcase takes the screenshot of the README: a small agent whose consumers have worked
// for two minutes. It runs with KCAGENT_SHOWCASE=1 only; copy dist/page/showcase.png to
// docs/page.png.
func TestShowcase(t *testing.T) {
	if os.Getenv("KCAGENT_SHOWCASE") != "1" {
		t.Skip("KCAGENT_SHOWCASE is not 1")
	}
	s := newScene(t, "  []\n")
	dir := filepath.Join(os.TempDir(), "kcagent")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s.dir = dir
	entries := `  - {name: orders}
  - {name: payments, topics: [payments]}
  - {name: audit, topics: [audit], state: paused}
  - {name: orders-archive, group: archive, sink: {file: {path: '` + dir + `/archive/{topic}-{partition}.jsonl', format: json}}}
  - {name: payments-replay, topics: [payments], state: stopped}
  - {name: shipments, cluster: eu, topics: [shipments]}
`
	file := "clusters:\n  eu: {brokers: ['127.0.0.1:9093']}\n" + s.file(entries)[len("clusters:\n"):]
	a := agenttest.Start(t, agenttest.Options{Config: file, Path: filepath.Join(dir, "consumers.yaml")})
	s.Agent = a
	b := s.browse(browser.Options{Viewport: browser.Viewport{Height: 860}}, "#open=orders")
	for i := range 130 {
		wave := 1 + math.Sin(float64(i)/9)
		s.produce("orders", int(200*wave)+rand.IntN(60))
		s.produce("payments", int(40*wave)+rand.IntN(60))
		s.produce("audit", 12+rand.IntN(20))
		time.Sleep(time.Second)
	}
	b.Screenshot("showcase")
	b.Resize(browser.Viewport{Dark: true, Height: 860})
	b.Screenshot("showcase-dark")
}
