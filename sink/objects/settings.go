package objects

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"

	"kcagent/sink"
	"kcagent/sink/encode"
	"kcagent/sink/objects/store"
	"kcagent/sink/template"
)

// An Opener opens the store of a spec. Of a plan, the spec has the destination that the plan names, and
// the present credentials, encryption, tags and storage class.
type Opener func(ctx context.Context, spec *sink.ObjectsSpec) (store.Store, error)

// settings are all settings of this package that decide about keys and records, as a plan names
// them. They are immutable.
type settings struct {
	named    map[string]string // see the names below
	url      string
	format   sink.Format
	codec    sink.Compression
	template *template.Template
	ext      string // of the keys
	encoders encode.Encoders
	store    store.Store
}

// Names of the settings in a plan.
const (
	planURL         = "url"
	planEndpoint    = "endpoint"
	planRegion      = "region"
	planPathStyle   = "pathstyle"
	planAccount     = "account"
	planKey         = "key"
	planZone        = "tz"
	planFormat      = "format"
	planCompression = "compression"
)

// PlanSettings returns the settings of a spec that each plan contains, see [sink.Plan]. Empty ones
// are left out.
func PlanSettings(s sink.ObjectsSpec) map[string]string {
	pathStyle := ""
	if s.PathStyle {
		pathStyle = "true"
	}
	named := map[string]string{
		planURL: s.URL, planEndpoint: s.Endpoint, planRegion: s.Region, planPathStyle: pathStyle, planAccount: s.Account,
		planKey: s.Key, planZone: s.TimeZone, planFormat: string(s.Format), planCompression: string(s.Compression),
	}
	for k, v := range named {
		if v == "" {
			delete(named, k)
		}
	}
	return named
}

// withPlan returns the spec with the settings of a plan. Encryption, storage class and tags are left
// out if the plan has another server, which may reject them. Credentials remain: each kind of store has
// keys of its own.
func withPlan(s sink.ObjectsSpec, named map[string]string) sink.ObjectsSpec {
	present, endpoint := providerOf(s), s.Endpoint
	s.URL, s.Endpoint, s.Region, s.Account = named[planURL], named[planEndpoint], named[planRegion], named[planAccount]
	s.PathStyle = named[planPathStyle] == "true"
	s.Key, s.TimeZone = named[planKey], named[planZone]
	s.Format, s.Compression = sink.Format(named[planFormat]), sink.Compression(named[planCompression])
	if providerOf(s) != present {
		s.ServerSideEncryption, s.StorageClass, s.Tags = "", "", nil
	}
	if s.Endpoint == "" && endpoint != "" { // the provider has no certificate of a private authority
		s.TLS = nil
	}
	return s
}

// providerOf returns a text that differs between stores that have different storage classes and
// encryption keys.
func providerOf(s sink.ObjectsSpec) string {
	scheme, _, _ := strings.Cut(s.URL, "://")
	return strings.Join([]string{scheme, s.Endpoint, s.Region, s.Account}, " ")
}

// newSettings checks the settings of a spec. It opens nothing.
func newSettings(s sink.ObjectsSpec) (*settings, error) {
	if s.URL == "" || s.Key == "" {
		return nil, errors.New("url or key is missing")
	}
	zone, err := time.LoadLocation(s.TimeZone) // "" is UTC
	if err != nil {
		return nil, fmt.Errorf("invalid time zone %q: %w", s.TimeZone, err)
	}
	t, err := template.Parse(s.Key, zone)
	if err != nil {
		return nil, err
	}
	encoders, err := encode.For(s.Format)
	if err != nil {
		return nil, err
	}
	switch s.Compression {
	case "":
		s.Compression = sink.Uncompressed
	case sink.Uncompressed, sink.Gzip, sink.Zstd:
	default:
		return nil, fmt.Errorf("unknown compression %q: use %s", string(s.Compression), strings.Join(s.Compression.Values(), ", "))
	}
	return &settings{
		named: PlanSettings(s), url: s.URL, format: s.Format, codec: s.Compression, template: t,
		ext: Extension(s.Key, s.Format, s.Compression), encoders: encoders,
	}, nil
}

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// Extension returns what is appended to the keys of a template: the extension of the compression,
// and before it .jsonl for JSON, if the last element of the template has no extension.
func Extension(key string, f sink.Format, c sink.Compression) (ext string) {
	key = placeholder.ReplaceAllString(key, "")
	if f == sink.JSON && path.Ext(key) == "" {
		ext = ".jsonl"
	}
	switch c {
	case sink.Gzip:
		ext += ".gz"
	case sink.Zstd:
		ext += ".zst"
	}
	return ext
}

// attributes returns content type and metadata of an object; the package comment has the reasons.
func (s *settings) attributes(meta map[string]string) store.Attributes {
	a := store.Attributes{ContentType: "text/plain", Meta: meta}
	switch {
	case s.codec == sink.Gzip:
		a.ContentType = "application/gzip"
	case s.codec == sink.Zstd:
		a.ContentType = "application/zstd"
	case s.format == sink.JSON:
		a.ContentType = "application/x-ndjson"
	}
	return a
}

// stores has the open stores of a sink: the store of its spec, and the stores of plans with other
// destinations.
type stores struct {
	open Opener

	mu    sync.Mutex
	byKey map[string]store.Store
}

// get returns the store of a spec, and opens it if it is not open.
func (s *stores) get(ctx context.Context, spec sink.ObjectsSpec) (store.Store, error) {
	key := fmt.Sprintf("%q %q %q %t %q", spec.URL, spec.Endpoint, spec.Region, spec.PathStyle, spec.Account)
	s.mu.Lock()
	st := s.byKey[key]
	s.mu.Unlock()
	if st != nil {
		return st, nil
	}
	st, err := s.open(ctx, &spec)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	other := s.byKey[key]
	if other == nil {
		s.byKey[key] = st
	}
	s.mu.Unlock()
	if other != nil { // another partition was faster
		st.Close()
		return other, nil
	}
	return st, nil
}

func (s *stores) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.byKey {
		st.Close()
	}
	clear(s.byKey)
}
