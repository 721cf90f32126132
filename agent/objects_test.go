package agent

import (
	"context"
	"testing"
	"time"

	"kcagent/sink"
)

// An objectHolder is a sink with objects that are not published yet.
type objectHolder struct {
	*memory
	options sink.Options
}

func (h *objectHolder) open(ctx context.Context, spec sink.Spec, o sink.Options) (sink.Sink, error) {
	h.options = o
	_, err := h.memory.open(ctx, spec, o)
	return h, err
}

func (h *objectHolder) Objects() sink.Objects { return sink.Objects{Spool: 7, Open: 2} }

// TestSnapshotHasTheObjectsOfTheSink: the consumer counts what the sink uploads, and shows what it
// holds while it runs. The sink knows the version of the agent.
func TestSnapshotHasTheObjectsOfTheSink(t *testing.T) {
	h := &objectHolder{memory: &memory{}}
	r := newRig(t, 1)
	r.restart(h.open)
	r.edit("")
	r.wantCommitted(0, 0)
	if h.options.Version != rigVersion {
		t.Errorf("the sink has version %q", h.options.Version)
	}
	h.options.Uploaded(5, time.Second)
	h.options.Uploaded(6, time.Second)
	s := r.running().Snapshot()
	if s.Objects != 2 || s.ObjectBytes != 11 || s.UploadSeconds.Metric().GetSampleCount() != 2 {
		t.Errorf("counted %d objects with %d bytes", s.Objects, s.ObjectBytes)
	}
	if got := s.Unpublished; got.Spool != 7 || got.Open != 2 {
		t.Errorf("the snapshot has %+v", got)
	}
	r.edit(", state: stopped")
	r.wantStatus("CREATED")
	if got := r.running().Snapshot().Unpublished; got.Spool != 0 {
		t.Errorf("a stopped consumer has %+v", got)
	}
}
