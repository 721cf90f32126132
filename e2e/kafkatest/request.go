package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/e2e/wait"
)

// requestTimeout bounds every request of this package, with its retries.
const requestTimeout = 2 * time.Minute

// A request is what every request type of kmsg implements, with its response type R.
type request[R any] interface {
	RequestWith(ctx context.Context, r kmsg.Requestor) (R, error)
}

// Request sends req to the cluster and returns the response. It sends req again while the
// request fails, or fault returns an error, for a reason that passes: a coordinator or a
// leader is being elected, a broker is starting, a broker does not know a topic yet. Any
// other error fails the test. fault returns the error that the response reports; nil
// stands for a response whose errors do not matter.
func Request[R any](t testing.TB, c *Cluster, what string, req request[R], fault func(R) error) R {
	t.Helper()
	var resp R
	wait.For(t, requestTimeout, what, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		defer cancel()
		r, err := req.RequestWith(ctx, c.client)
		if err == nil && fault != nil {
			err = fault(r)
		}
		if err != nil && !passes(err) {
			t.Fatalf("%s: %v", what, err)
		}
		resp = r
		return err
	})
	return resp
}

// passes reports whether a request that failed with err may succeed later.
func passes(err error) bool {
	return kerr.IsRetriable(err) || kgo.IsRetryableBrokerErr(err) || errors.Is(err, context.DeadlineExceeded)
}

// code returns the error of an error code of Kafka; nil for 0.
func code(code int16) error { return kerr.ErrorForCode(code) }

// everyBroker returns nil if check does for each broker of the cluster that is alive.
// Brokers learn of a change one after the other, and a client may be connected to any of
// them: what one broker reports says nothing about the next one.
func (c *Cluster) everyBroker(check func(ctx context.Context, b kmsg.Requestor) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	alive, err := topicMetadata().RequestWith(ctx, c.client)
	if err != nil {
		return err
	}
	for _, b := range alive.Brokers {
		if err := check(ctx, c.client.Broker(int(b.NodeID))); err != nil {
			return fmt.Errorf("broker %d: %w", b.NodeID, err)
		}
	}
	return nil
}

// topicMetadata requests the metadata of topics, or of the brokers alone.
func topicMetadata(topics ...string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{} // nil requests all topics
	for _, topic := range topics {
		name := kmsg.NewMetadataRequestTopic()
		name.Topic = kmsg.StringPtr(topic)
		req.Topics = append(req.Topics, name)
	}
	return req
}
