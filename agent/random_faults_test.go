package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/agent/offsets"
	"kcagent/sink"
)

// TestConsumersSurviveRandomFaultsOnEightCores is TestConsumersSurviveRandomFaults with eight chunks
// in progress.
func TestConsumersSurviveRandomFaultsOnEightCores(t *testing.T) {
	useEightCores(t)
	s := newFaultStorm(t, true)
	for range 30 {
		s.step()
	}
	s.calm()
	s.wantEveryRecord()
}

// TestConsumersSurviveRandomFaults: errors in every call of the sink, failing commits, pauses,
// rebalances and restarts lose no record. With a ledger, no record is stored twice, and no
// decision is reported as a reset, a copy or a hand-over.
func TestConsumersSurviveRandomFaults(t *testing.T) {
	for _, ledger := range []bool{true, false} {
		t.Run(fmt.Sprintf("ledger=%v", ledger), func(t *testing.T) {
			s := newFaultStorm(t, ledger)
			for range 50 {
				s.step()
			}
			s.calm()
			s.wantEveryRecord()
		})
	}
}

// TestWaitingPartitionsSurviveRandomFaults: records arrive one by one, at the moment of errors,
// pauses, rebalances and restarts, while most partitions wait without a goroutine. None of
// them is lost or stored twice, each partition continues, and no goroutine is left.
func TestWaitingPartitionsSurviveRandomFaults(t *testing.T) {
	s := newFaultStorm(t, true)
	s.wantStatus(consumer.Running)
	var producing sync.WaitGroup
	disturbed := make(chan struct{})
	producing.Go(func() {
		random := rand.New(rand.NewPCG(2, 7))
		for {
			p := random.IntN(stormPartitions)
			s.produce(int32(p), fmt.Sprint(s.produced[p]))
			s.produced[p]++
			select {
			case <-disturbed:
				return
			case <-time.After(time.Duration(random.IntN(8)) * time.Millisecond):
			}
		}
	})
	for range 80 {
		s.disturb()
		time.Sleep(time.Duration(s.rand.IntN(30)) * time.Millisecond)
	}
	close(disturbed)
	producing.Wait()
	s.heal()
	s.commitsFail.Store(false)
	s.topics, s.state = "[t]", "running"
	s.apply()
	for p, n := range s.produced {
		s.wantCommitted(int32(p), int64(n))
	}
	s.wantStatus(consumer.Running)
	s.wantGoroutines("after the storm", idleGoroutines)
	s.calm()
	s.wantEveryRecord()
}

const stormPartitions = 12

// A faultStorm disturbs a consumer whose sink is in memory.
type faultStorm struct {
	*rig
	rand          *rand.Rand
	topics, state string
	commitsFail   atomic.Bool
	produced      [stormPartitions]int
}

func newFaultStorm(t *testing.T, ledger bool) *faultStorm {
	s := &faultStorm{rig: newRig(t, stormPartitions), rand: rand.New(rand.NewPCG(1, 7)), topics: "[t]", state: "running"}
	s.makeTopic("u")
	m := s.memory
	m.keepsLedger = ledger
	s.restart(func(ctx context.Context, spec sink.Spec, o sink.Options) (sink.Sink, error) {
		m.mu.Lock() // a file is truncated to its checkpoint
		m.recs = slices.DeleteFunc(m.recs, func(r stored) bool { return !r.flushed })
		m.mu.Unlock()
		return m.open(ctx, spec, o)
	})
	s.cluster.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.cluster.KeepControl()
		return nil, errors.New("no commit"), s.commitsFail.Load()
	})
	s.apply()
	return s
}

func (s *faultStorm) apply() {
	s.edit(fmt.Sprintf(", topics: %s, state: %s, flush: {interval: 20ms}, stall_timeout: 10s", s.topics, s.state))
}

// step disturbs the consumer in one way, and produces some records.
func (s *faultStorm) step() {
	s.disturb()
	p := s.rand.IntN(stormPartitions)
	for range 1 + s.rand.IntN(4) {
		s.produce(int32(p), fmt.Sprint(s.produced[p]))
		s.produced[p]++
	}
	time.Sleep(time.Duration(s.rand.IntN(40)) * time.Millisecond)
}

func (s *faultStorm) disturb() {
	toggle := func(value *string, a, b string) {
		if *value == a {
			a = b
		}
		*value = a
		s.apply()
	}
	switch s.rand.IntN(9) {
	case 0, 1, 2, 3:
		s.failPartition(s.rand.Int32N(stormPartitions))
	case 4:
		toggle(&s.state, "running", "paused")
	case 5:
		toggle(&s.topics, "[t]", "[t, u]")
	case 6:
		s.commitsFail.Store(s.rand.IntN(2) == 0)
	case 7:
		if s.rand.IntN(3) == 0 {
			_ = s.stop()
			s.start()
			s.apply()
		}
	case 8:
		s.heal()
	}
}

func (s *faultStorm) failPartition(p int32) {
	plain, lost := errors.New("input/output error"), fmt.Errorf("sync: %w", sink.ErrReopen)
	s.memory.failPartition(p, partitionFault{
		open:  []error{nil, nil, plain}[s.rand.IntN(3)],
		write: []error{nil, nil, plain}[s.rand.IntN(3)],
		flush: []error{nil, nil, plain, lost}[s.rand.IntN(4)],
	})
}

func (s *faultStorm) heal() {
	for p := range int32(stormPartitions) {
		s.memory.failPartition(p, partitionFault{})
	}
}

// calm ends the storm, and waits until everything is committed.
func (s *faultStorm) calm() {
	s.Helper()
	s.heal()
	s.commitsFail.Store(false)
	s.state = "running"
	s.apply()
	s.wantStatus(consumer.Running)
	for p, n := range s.produced {
		s.wantCommitted(int32(p), int64(n))
	}
	_ = s.stop()
}

func (s *faultStorm) wantEveryRecord() {
	s.Helper()
	all := s.memory.all()
	for p, n := range s.produced {
		var want, got []string
		for i := range n {
			want = append(want, fmt.Sprintf("t/%d@%d=%d", p, i, i))
		}
		for _, text := range all {
			if strings.HasPrefix(text, fmt.Sprintf("t/%d@", p)) {
				got = append(got, text)
			}
		}
		if !s.memory.keepsLedger { // a restart may repeat records
			slices.Sort(want)
			slices.Sort(got)
			got = slices.Compact(got)
		}
		if !slices.Equal(got, want) {
			s.Errorf("partition %d: got %v, want %v", p, got, want)
		}
	}
	for _, r := range []offsets.Reason{offsets.AtCommitOfCopy, offsets.AtMismatch, offsets.AtExternal, offsets.AtExternalReset, offsets.AtOtherClient, offsets.AtOthersReset, offsets.TopicRecreated, offsets.AtEarlyStart, offsets.AtLedgerNotEarlyStart} {
		if strings.Contains(s.log.String(), r.Message) {
			s.Errorf("the log says: %s", r.Message)
		}
	}
}
