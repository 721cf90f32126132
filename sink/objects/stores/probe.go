package stores

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"kcagent/sink/objects/store"
)

// probePrefix begins the key of a probe object. No key of records begins like that by accident.
const probePrefix = ".kcagent-probe-"

// metaProbe is the metadata of a probe object.
const metaProbe = "kcagentprobe"

// IsProbe reports whether key, below the prefix of the store, is that of a probe object, which
// holds no records.
func IsProbe(key string) bool { return strings.HasPrefix(key, probePrefix) }

// leftover is the age from which a probe object belongs to an agent that was killed.
const leftover = 24 * time.Hour

// Probe checks that the store permits all that the sink does: it uploads an object, reads and lists
// it, and deletes it. conditional reports whether the store implements conditional writes. An error
// names the permission that is missing, see [store.PermissionError]. Its text is the same for each
// probe.
func Probe(ctx context.Context, s store.Store) (conditional bool, err error) {
	id := rand.Text() // several agents may check a store at the same time
	conditional, err = probe(ctx, s, probePrefix+id)
	if err == nil {
		err = deleteLeftovers(ctx, s)
	}
	if err == nil {
		return conditional, nil
	}
	err = &probeError{strings.ReplaceAll(err.Error(), id, "…"), err}
	if p, ok := errors.AsType[*store.PermissionError](err); ok {
		err = &store.PermissionError{Permission: p.Permission, Err: err}
	}
	return false, err
}

// A probeError is an error without the random part of a key.
type probeError struct {
	text string
	err  error
}

func (e *probeError) Error() string { return e.text }
func (e *probeError) Unwrap() error { return e.err }

func probe(ctx context.Context, s store.Store, key string) (conditional bool, err error) {
	data := []byte("kcagent checks its permissions.\n")
	a := store.Attributes{ContentType: "text/plain", Meta: map[string]string{metaProbe: "1"}}
	if _, err := s.Head(ctx, key); err == nil {
		return false, fmt.Errorf("check the store: it has an object %s that was not uploaded", key)
	} else if !errors.Is(err, store.ErrNotExist) {
		return false, err
	}
	if err := s.AbortUploads(ctx, key); err != nil {
		return false, err
	}
	if err := s.Put(ctx, key, bytes.NewReader(data), int64(len(data)), a); err != nil {
		return false, err
	}
	if conditional, err = check(ctx, s, key, data, a); err != nil {
		_ = s.Delete(ctx, key) // as far as it is permitted
		return false, err
	}
	return conditional, s.Delete(ctx, key)
}

// check reads an object in each way, and tries to replace it.
func check(ctx context.Context, s store.Store, key string, data []byte, a store.Attributes) (conditional bool, err error) {
	err = s.Put(ctx, key, bytes.NewReader(data), int64(len(data)), a)
	if err != nil && !errors.Is(err, store.ErrExists) {
		return false, err
	}
	conditional = err != nil
	o, err := s.Head(ctx, key)
	if errors.Is(err, store.ErrNotExist) {
		return false, fmt.Errorf("check the store: object %s is not found after its upload; check the proxies in front of the store", key)
	}
	if err != nil {
		return false, err
	}
	r, err := s.Open(ctx, key)
	if err != nil {
		return false, err
	}
	defer r.Close()
	got, err := io.ReadAll(io.LimitReader(r, int64(len(data))+1))
	if err != nil {
		return false, err
	}
	if !bytes.Equal(got, data) || o.Size != int64(len(data)) {
		return false, fmt.Errorf("check the store: object %s has another content than what was uploaded", key)
	}
	if o.Meta[metaProbe] != a.Meta[metaProbe] {
		return false, fmt.Errorf("check the store: object %s has lost its metadata; use a store that keeps it, because the agent recognises its objects by it", key)
	}
	return conditional, nil
}

// deleteLeftovers deletes the probe objects of agents that were killed, which checks that objects
// can be listed.
func deleteLeftovers(ctx context.Context, s store.Store) error {
	var old []string
	for o, err := range s.List(ctx, probePrefix) {
		if err != nil {
			return err
		}
		if time.Since(o.Modified) > leftover {
			old = append(old, o.Key)
		}
	}
	for _, key := range old {
		if err := s.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}
