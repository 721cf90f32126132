package consumer

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/generation"
	"kcagent/agent/kafka/login"
	"kcagent/fetch"
)

func TestClassifyEndOfGeneration(t *testing.T) {
	missing := &fetch.TopicError{Topic: "t", Err: sarama.ErrUnknownTopicOrPartition}
	// ended is the end of a generation of a minute, of a member that has had others.
	ended := func(change func(*generationEnd)) generationEnd {
		e := generationEnd{everJoined: true, listedTopics: true, lasted: time.Minute}
		change(&e)
		return e
	}
	for name, c := range map[string]struct {
		end  generationEnd
		want outcome
	}{
		"A rebalance after a long generation rejoins at once.": {
			ended(func(*generationEnd) {}), rejoin,
		},
		"A rebalance after less than a second rejoins slowly, if there is another one.": {
			ended(func(e *generationEnd) { e.lasted = shortGeneration - 1 }), rejoinSlowly,
		},
		"Another number of partitions is a rebalance.": {
			ended(func(e *generationEnd) { e.cause = sarama.ErrSessionPartitionCountChanged }), rejoin,
		},
		"A stop ends the run, whatever else has happened.": {
			ended(func(e *generationEnd) { e.stopped, e.cause, e.err = true, &generation.StallError{}, io.EOF }), runStopped,
		},
		"A stalled partition restarts the consumer.": {
			ended(func(e *generationEnd) { e.cause = &generation.StallError{} }), restartStalled,
		},
		"A stalled partition restarts the consumer, although the end of the generation failed, too.": {
			ended(func(e *generationEnd) { e.cause, e.err = &generation.StallError{}, io.EOF }), restartStalled,
		},
		"Changed topics are subscribed to at once.": {
			ended(func(e *generationEnd) { e.cause, e.lasted = generation.ErrTopicsChanged, 0 }), resubscribe,
		},
		"A partition that is assigned to no member makes a static member leave and rejoin.": {
			ended(func(e *generationEnd) { e.cause = errUnassignedPartition }), leaveAndRejoin,
		},
		"A topic that is not subscribed to makes a static member leave and rejoin.": {
			ended(func(e *generationEnd) { e.err = fmt.Errorf("setup: %w", errForeignTopic) }), leaveAndRejoin,
		},
		"A member whose commit got no response and is not in force joins again.": {
			ended(func(e *generationEnd) { e.cause, e.err = generation.ErrCommitLost, net.ErrClosed }), rejoinSlowly,
		},
		"A member whose instance_id was taken waits until it is free.": {
			ended(func(e *generationEnd) { e.err = sarama.ErrFencedInstancedId }), instanceTaken,
		},
		"A commit that says so has the same effect as a heartbeat.": {
			ended(func(e *generationEnd) {
				e.cause = generation.MembershipLostError{Err: sarama.ErrFencedInstancedId}
			}), instanceTaken,
		},
		"A member that lost its partitions, by the response to a commit, joins again.": {
			ended(func(e *generationEnd) {
				e.cause, e.err = generation.MembershipLostError{Err: sarama.ErrUnknownMemberId}, net.ErrClosed
			}), rejoinSlowly,
		},
		"A topic that is missing after the subscription may be being deleted: look it up again.": {
			ended(func(e *generationEnd) { e.err, e.everJoined = missing, false }), refreshTopics,
		},
		"A topic that matches the pattern and is missing may be being deleted: look it up again.": {
			ended(func(e *generationEnd) { e.err, e.listedTopics, e.followsPattern = missing, false, true }), refreshTopics,
		},
		"A topic that stays missing is an error.": {
			ended(func(e *generationEnd) { e.err, e.shortBefore = missing, vanishingTries }), retryJoin,
		},
		"If none of the named topics exists, that is an error at once.": {
			ended(func(e *generationEnd) { e.err, e.listedTopics = missing, false }), retryJoin,
		},
		"A member that was never in the group reopens its client after each error.": {
			ended(func(e *generationEnd) { e.err, e.everJoined = io.EOF, false }), reopenClient,
		},
		"Rejected credentials need a new client.": {
			ended(func(e *generationEnd) { e.err = sarama.ErrSASLAuthenticationFailed }), reopenClient,
		},
		"A login that was not attempted, because of the backoff after rejected credentials, does not.": {
			ended(func(e *generationEnd) {
				e.err = &login.BackoffError{Rejection: sarama.ErrSASLAuthenticationFailed}
			}), retryJoin,
		},
		"A closed client needs a new one.": {
			ended(func(e *generationEnd) { e.err = sarama.ErrClosedClient }), reopenClient,
		},
		"A closed group needs a new client.": {
			ended(func(e *generationEnd) { e.err = sarama.ErrClosedConsumerGroup }), reopenClient,
		},
		"After other errors a member keeps its client, and with it its member id, however long the outage lasts.": {
			ended(func(e *generationEnd) { e.err = io.EOF }), retryJoin,
		},
		"A generation that was ended because its topic was recreated is followed by the next at once.": {
			ended(func(e *generationEnd) { e.cause = &fetch.RecreatedError{Topic: "t"} }), rejoin,
		},
		"A generation that was ended because the cluster was replaced is followed by the next at once.": {
			ended(func(e *generationEnd) { e.cause = generation.ErrClusterChanged }), rejoin,
		},
	} {
		if got := classify(c.end); got != c.want {
			t.Errorf("%s: outcome %d, want %d", name, got, c.want)
		}
	}
}
