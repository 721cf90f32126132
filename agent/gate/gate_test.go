package gate

import (
	"testing"
)

func TestShutGateAdmitsNoWrite(t *testing.T) {
	var g Gate
	if !g.Enter() {
		t.Fatal("an open gate admitted no write")
	}
	emptied := g.Shut()
	if isClosed(emptied) {
		t.Error("the channel is closed while a write is in progress")
	}
	if g.Enter() {
		t.Error("a shut gate admitted a write")
	}
	g.Leave()
	if !isClosed(emptied) {
		t.Error("the channel is not closed after the last write")
	}
	g.Open()
	if !g.Enter() {
		t.Error("an opened gate admitted no write")
	}
	again := g.Shut() // during the second write
	if isClosed(again) || again != g.Shut() {
		t.Error("the second Shut differs from the first")
	}
	g.Leave()
	if !isClosed(again) {
		t.Error("the channel is not closed the second time")
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
