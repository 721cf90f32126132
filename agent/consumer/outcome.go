package consumer

import (
	"errors"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/generation"
	"kcagent/agent/kafka/login"
	"kcagent/fetch"
)

// A generationEnd is how a generation, or the attempt to join it, ended.
type generationEnd struct {
	stopped bool  // the run has ended
	cause   error // why the agent ended the generation; nil if it did not
	err     error // what the join returned; nil after a rebalance
	unsaved error // what the last flush and commit could not save

	commitLost bool // a commit without a response may still arrive

	began   time.Time
	absent  []error // of the topics, before the join
	pattern string  // of the topics; "" if the consumer lists them

	followsPattern bool // the consumer subscribes to the topics that match topics_regex
	listedTopics   bool // the topics were found, and an error came later
	everJoined     bool // the member has had a generation
	lasted         time.Duration
	shortBefore    int // generations in a row before this one that ended at once
}

// An outcome is what a member does after a generation.
type outcome uint8

const (
	rejoin         outcome = iota // join again at once: an ordinary rebalance
	rejoinSlowly                  // join again, with a pause if the generation before was short, too
	resubscribe                   // join again at once, with topics that are looked up again
	refreshTopics                 // wait, and look up the topics again: one of them may be being deleted
	leaveAndRejoin                // leave the group, which a static member does not do otherwise, and join again
	instanceTaken                 // wait until no other member has the instance_id
	retryJoin                     // report the error, wait, and join again with the same client
	reopenClient                  // return the error: a new client is needed
	restartStalled                // return the cause: a partition is stalled, and everything is opened again
	runStopped                    // return
)

const (
	// shortGeneration is how long a generation lasts at most that ended at once.
	shortGeneration = time.Second
	// vanishingTries is how often in a row a missing topic is looked up again. It is left
	// out by the second response that lacks it.
	vanishingTries = 3
)

// classify decides what follows a generation. The first case that applies counts.
func classify(e generationEnd) outcome {
	switch {
	case e.stopped:
		return runStopped
	case errors.As(e.cause, new(*generation.StallError)):
		return restartStalled
	case errors.Is(e.cause, generation.ErrTopicsChanged):
		return resubscribe
	case errors.Is(e.cause, errUnassignedPartition), errors.Is(e.err, errForeignTopic):
		return leaveAndRejoin
	case errors.Is(e.err, sarama.ErrFencedInstancedId), errors.Is(e.cause, sarama.ErrFencedInstancedId):
		return instanceTaken
	case errors.As(e.cause, new(generation.MembershipLostError)): // whatever the join returned then
		return rejoinSlowly
	case errors.As(e.err, new(*fetch.TopicError)) && (e.followsPattern || e.listedTopics) && e.shortBefore < vanishingTries:
		return refreshTopics
	case errors.Is(e.cause, generation.ErrCommitLost): // whatever the join returned then
		return rejoinSlowly
	case e.err != nil && needsNewClient(e.err, e.everJoined):
		return reopenClient
	case e.err != nil:
		return retryJoin
	case e.lasted < shortGeneration:
		return rejoinSlowly
	}
	return rejoin
}

// needsNewClient reports whether a join needs a new client after err, because credentials
// and certificates are read when it is created. Otherwise a member keeps its client, however
// long the outage was: with the client it would lose its member id. A coordinator that was
// down itself still knows that id, and would make the new member wait until the old one
// times out. A coordinator that has forgotten the id says so, and sarama joins without.
func needsNewClient(err error, everJoined bool) bool {
	return !everJoined ||
		login.Rejected(err) && !login.InBackoff(err) ||
		errors.Is(err, sarama.ErrClosedClient) ||
		errors.Is(err, sarama.ErrClosedConsumerGroup)
}
