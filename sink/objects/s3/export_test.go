package s3

import (
	"context"
	"net"
	"net/http"
	"time"

	"kcagent/sink"
)

// Tuning has the limits that tests change. A limit of zero is not changed.
type Tuning struct {
	Stall        time.Duration
	Single, Part int64
}

// OpenTuned is Open with other limits, and without pauses.
func OpenTuned(ctx context.Context, spec *sink.ObjectsSpec, t Tuning) (*Store, error) {
	tune := standard
	tune.pause = time.Millisecond
	if t.Stall != 0 {
		tune.stall, tune.completion = t.Stall, t.Stall
	}
	if t.Single != 0 {
		tune.single, tune.part = t.Single, t.Part
	}
	return open(ctx, spec, tune)
}

// NewTransport returns the transport of a store whose connections dial returns.
func NewTransport(dial func(ctx context.Context, network, address string) (net.Conn, error)) (rt http.RoundTripper, closeIdle func()) {
	t, err := newObserver(nil, standard)
	if err != nil {
		panic(err) // it reads no file
	}
	t.Own = &http.Transport{DialContext: dial}
	return t, t.CloseIdleConnections
}

// ExplainConnection returns how a store explains an error of a connection.
func ExplainConnection(ctx context.Context, spec *sink.ObjectsSpec, err error) error {
	s, openErr := open(ctx, spec, standard)
	if openErr != nil {
		return openErr
	}
	return s.explainConnection(err)
}

// ForgetEnvironment empties the chain of the process.
func ForgetEnvironment() { environment = &chain{} }

// RenewsIn reports whether the chain of the process renews its credentials within d.
func RenewsIn(d time.Duration) bool { return environment.expired(time.Now().Add(d)) }

// PartSize returns the size of the parts of an object.
func PartSize(size int64) int64 { return (&Store{tuning: standard}).partSize(size) }

// URLOf returns the URL of an object.
func (s *Store) URLOf(ctx context.Context, key string) (string, error) {
	u, err := s.client.PresignedGetObject(ctx, s.bucket, s.key(key), time.Minute, nil)
	if err != nil {
		return "", err
	}
	return u.Scheme + "://" + u.Host + u.Path, nil
}

// RenewNow makes the next request renew the credentials of the process.
func RenewNow() {
	environment.mu.Lock()
	defer environment.mu.Unlock()
	environment.renew = time.Now()
}
