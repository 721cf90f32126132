// Package kinds lists the kinds of sink and opens them.
//
// A further kind is one entry in the table of this package, one field of [sink.Spec] with its
// defaults and rules in package config, and one package with a [sink.Sink] whose tests call
// sinktest.TestContract.
package kinds

import (
	"context"
	"errors"
	"slices"

	"kcagent/sink"
	"kcagent/sink/file"
	"kcagent/sink/file/filename"
	"kcagent/sink/stdout"
)

// A kind is what the program needs of one kind of sink. The functions are called with a spec
// of the kind. All but open are optional.
type kind struct {
	name string // as in the configuration; see [sink.Spec.Kind]

	// open opens a sink; see [Open].
	open func(ctx context.Context, spec sink.Spec, o sink.Options) (sink.Sink, error)
	// check reports why a sink could not be opened; see [Check].
	check func(ctx context.Context, spec sink.Spec) error
	// checkFree reports that another process writes to the sink; see [CheckFree].
	checkFree func(spec sink.Spec, mine []sink.Spec) error
	// conflict reports whether two sinks could write to the same place; see [Conflict].
	conflict func(a, b sink.Spec) bool
}

type registry []kind

// table are the kinds of sink, by name. A further kind is one entry here, one field of
// [sink.Spec], and one package.
var table = registry{
	{
		name: "file",
		open: func(ctx context.Context, spec sink.Spec, o sink.Options) (sink.Sink, error) {
			return file.Open(ctx, *spec.File, o)
		},
		check:     func(_ context.Context, spec sink.Spec) error { return file.Check(*spec.File) },
		checkFree: checkFileFree,
		conflict:  func(a, b sink.Spec) bool { return filename.Overlap(a.File.Path, nil, b.File.Path, nil) },
	},
	{
		name: "objects",
		// Two sinks of one process never wait for each other: plans in Kafka fence them.
		open:  openObjects,
		check: checkObjects,
	},
	{
		name: "stdout",
		open: func(_ context.Context, spec sink.Spec, _ sink.Options) (sink.Sink, error) {
			return stdout.Open(*spec.Stdout)
		},
	},
}

func checkFileFree(spec sink.Spec, mine []sink.Spec) error {
	var files []sink.FileSpec
	for _, m := range mine {
		if m.File != nil {
			files = append(files, *m.File)
		}
	}
	return file.CheckFree(*spec.File, files)
}

var errNoKind = errors.New("open sink: no kind is set")

// of returns the kind of a spec.
func (r registry) of(spec sink.Spec) (kind, error) {
	i := slices.IndexFunc(r, func(k kind) bool { return k.name == spec.Kind() })
	if i < 0 {
		return kind{}, errNoKind
	}
	return r[i], nil
}

// Open opens the sink that spec describes. The caller closes it.
func Open(ctx context.Context, spec sink.Spec, o sink.Options) (sink.Sink, error) {
	return table.openSink(ctx, spec, o)
}

func (r registry) openSink(ctx context.Context, spec sink.Spec, o sink.Options) (sink.Sink, error) {
	k, err := r.of(spec)
	if err != nil {
		return nil, err
	}
	return k.open(ctx, spec, o)
}

// Check reports why a sink could not be opened. It locks nothing, and leaves nothing. A sink
// that another process uses now is not an error. It may wait for a file system or a store; for a
// store, it ends soon after ctx.
func Check(ctx context.Context, spec sink.Spec) error {
	k, err := table.of(spec)
	if err != nil || k.check == nil {
		return err
	}
	return k.check(ctx, spec)
}

// CheckFree is [Check], and also reports that another process writes to the sink now. mine
// are the sinks of this process, under any name.
func CheckFree(ctx context.Context, spec sink.Spec, mine []sink.Spec) error {
	if err := Check(ctx, spec); err != nil {
		return err
	}
	k, err := table.of(spec)
	if err != nil || k.checkFree == nil {
		return err
	}
	return k.checkFree(spec, mine)
}

// Conflict reports whether two sinks could write to the same place, for any topics. Sinks of
// different kinds cannot.
func Conflict(a, b sink.Spec) bool {
	k, err := table.of(a)
	return err == nil && k.name == b.Kind() && k.conflict != nil && k.conflict(a, b)
}
