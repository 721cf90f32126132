// Package stores opens the store of a URL, and checks that it can be used.
package stores

import (
	"context"
	"fmt"
	"strings"

	"kcagent/sink"
	"kcagent/sink/objects/azure"
	"kcagent/sink/objects/folder"
	"kcagent/sink/objects/gcs"
	"kcagent/sink/objects/s3"
	"kcagent/sink/objects/store"
)

// kinds has a function for each scheme, which opens the store and sends no request.
var kinds = map[string]func(context.Context, *sink.ObjectsSpec) (store.Store, error){
	"s3":   s3.Open,
	"gs":   gcs.Open,
	"az":   azure.Open,
	"file": folder.Open,
}

// Open returns the store of spec.URL. It sends no request; [Probe] does.
func Open(ctx context.Context, spec *sink.ObjectsSpec) (store.Store, error) {
	scheme, _, _ := strings.Cut(spec.URL, "://")
	open, ok := kinds[scheme]
	if !ok {
		return nil, fmt.Errorf("open %s: unknown kind of object store; use s3://, gs://, az:// or file:///", spec.URL)
	}
	return open(ctx, spec)
}
