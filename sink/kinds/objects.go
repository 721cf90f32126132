package kinds

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kcagent/sink"
	"kcagent/sink/file"
	"kcagent/sink/objects"
	"kcagent/sink/objects/stores"
)

const (
	// checkTimeout limits the check of one store, which takes about ten requests.
	checkTimeout = 20 * time.Second
	// maxChecks is how many stores are checked at a time: an edit of the defaults concerns every
	// consumer.
	maxChecks = 16
)

var checking = make(chan struct{}, maxChecks)

func openObjects(ctx context.Context, spec sink.Spec, o sink.Options) (sink.Sink, error) {
	return objects.Open(ctx, *spec.Objects, o, stores.Open)
}

// checkObjects checks that the spool can be written, and that the store permits all that the sink
// does. It writes, reads and deletes a probe object; it creates no folder.
func checkObjects(ctx context.Context, spec sink.Spec) error {
	select {
	case checking <- struct{}{}:
		defer func() { <-checking }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	o := *spec.Objects
	if err := checkFolder(o.SpoolFolder()); err != nil {
		return fmt.Errorf("check spool %s: %w; set spool to a folder that the agent can write", o.SpoolFolder(), err)
	}
	if folder, ok := strings.CutPrefix(o.URL, "file://"); ok {
		if err := checkFolder(folder); err != nil {
			return err
		}
		// A probe would create the folders, with the owner of kcagent validate.
		if _, err := os.Stat(filepath.Join(folder, ".kcagent")); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	return probe(ctx, &o, checkTimeout)
}

func checkFolder(folder string) error {
	return file.Check(sink.FileSpec{Path: filepath.Join(folder, "x")})
}

func probe(ctx context.Context, o *sink.ObjectsSpec, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("check %s: no response within %s", o.URL, timeout))
	defer cancel()
	s, err := stores.Open(ctx, o)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err = stores.Probe(ctx, s); err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
