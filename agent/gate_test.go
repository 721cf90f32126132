package agent

import (
	"testing"
)

func TestShutGateAdmitsNoWrite(t *testing.T) {
	var g gate
	if !g.Enter() {
		t.Fatal("an open gate let nobody in")
	}
	emptied := g.Shut()
	if isClosed(emptied) {
		t.Error("emptied while somebody is inside")
	}
	if g.Enter() {
		t.Error("a shut gate let somebody in")
	}
	g.Leave()
	if !isClosed(emptied) {
		t.Error("not emptied when the last one left")
	}
	g.Open()
	if !g.Enter() {
		t.Error("an opened gate let nobody in")
	}
	again := g.Shut() // with the second one inside
	if isClosed(again) || again != g.Shut() {
		t.Error("shutting twice is not shutting once")
	}
	g.Leave()
	if !isClosed(again) {
		t.Error("not emptied the second time")
	}
}
