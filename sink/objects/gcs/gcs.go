// Package gcs stores objects in Google Cloud Storage, through its JSON API.
//
// An object of up to 16 MiB is one request. A larger one is a resumable upload: parts of 16 MiB,
// one after the other, each read from the body while it is sent. After an interruption the upload
// continues behind the last byte that the store has. The checksum (CRC32C) of the whole object is
// sent first, and the store rejects another content.
//
// Uploads have ifGenerationMatch=0, so that they replace no object. An upload that does not end is
// invisible, cannot be listed, costs nothing, and expires after a week.
package gcs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"kcagent/sink"
	"kcagent/sink/objects/rest"
	"kcagent/sink/objects/store"
)

// Store is a bucket, or what is below a prefix of it. It implements [store.Store].
type Store struct {
	bucket, prefix string // the prefix is empty or ends with a slash
	class          string // "" is that of the bucket
	base           string // of all URLs, without a slash at the end
	origin         string // scheme and host of base
	client         *rest.Client
	tokens         tokens // nil sends anonymous requests
	part           int64  // of a resumable upload, a multiple of 256 KiB
}

// partSize bounds what is sent again after an interruption.
const partSize = 16 << 20

// Open returns the store of a gs:// URL. It sends no request.
//
// The store gets the credentials of the service account, or the application default credentials. An
// endpoint without TLS, such as that of an emulator, gets no default credentials.
func Open(_ context.Context, spec *sink.ObjectsSpec) (store.Store, error) {
	s, err := open(spec)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", spec.URL, err)
	}
	return s, nil
}

func open(spec *sink.ObjectsSpec) (*Store, error) {
	bucket, prefix, err := store.ParseURL(spec.URL, "gs://bucket/prefix")
	if err != nil {
		return nil, err
	}
	s := &Store{bucket: bucket, prefix: prefix, class: spec.StorageClass, base: "https://storage.googleapis.com", part: partSize}
	if len(spec.Tags) > 0 {
		return nil, errors.New("objects of Google Cloud Storage have no tags; remove tags")
	}
	if spec.Endpoint != "" {
		s.base = strings.TrimRight(spec.Endpoint, "/")
	}
	at, err := url.Parse(s.base)
	if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return nil, errors.New("invalid endpoint: use http://host:port or https://host:port")
	}
	s.origin = at.Scheme + "://" + at.Host
	switch file := spec.Credentials.ServiceAccountFile; {
	case file != "":
		s.tokens = &fileTokens{file: file}
	case at.Scheme == "https":
		s.tokens = applicationDefault
	}
	s.client, err = rest.NewClient(at.Host, spec.TLS, s.authorize)
	return s, err
}

// Close implements [store.Store].
func (s *Store) Close() { s.client.Close() }

// authorize adds credentials to a request of the API. The URL of a resumable upload needs none; if it
// leads to another host, or has no TLS, that host does not get them.
func (s *Store) authorize(r *http.Request) error {
	if s.tokens == nil || r.URL.Scheme+"://"+r.URL.Host != s.origin {
		return nil
	}
	token, err := s.tokens.get(r.Context())
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	return nil
}

// objectURL returns the URL of an object in the API.
func (s *Store) objectURL(key string) string {
	return s.base + "/storage/v1/b/" + url.PathEscape(s.bucket) + "/o/" + url.PathEscape(s.prefix+key)
}

// A resource is an object as the API describes it.
type resource struct {
	Name            string            `json:"name,omitempty"`
	Size            string            `json:"size,omitempty"`
	Updated         time.Time         `json:"updated,omitzero"`
	ContentType     string            `json:"contentType,omitempty"`
	ContentEncoding string            `json:"contentEncoding,omitempty"`
	StorageClass    string            `json:"storageClass,omitempty"`
	CRC32C          string            `json:"crc32c,omitempty"`
	Metadata        map[string]string `json:"metadata,omitempty"`
}

const resourceFields = "name,size,updated,contentType,contentEncoding,metadata"

var errNoObject = errors.New("invalid response of the store: no object")

func (s *Store) object(r resource) (store.Object, error) {
	size, err := strconv.ParseInt(r.Size, 10, 64)
	key, ok := strings.CutPrefix(r.Name, s.prefix)
	if err != nil || !ok {
		return store.Object{}, errNoObject
	}
	return store.Object{Key: key, Size: size, Modified: r.Updated, Attributes: store.Attributes{
		ContentType: r.ContentType, ContentEncoding: r.ContentEncoding, Meta: r.Metadata,
	}}, nil
}

// Head implements [store.Store].
func (s *Store) Head(ctx context.Context, key string) (store.Object, error) {
	var r resource
	err := s.call(ctx, rest.Request{Method: http.MethodGet, URL: s.objectURL(key) + "?fields=" + resourceFields}, &r)
	var o store.Object
	if err == nil {
		o, err = s.object(r)
	}
	return o, s.explain(lookUp, key, err)
}

// Open implements [store.Store].
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	resp, err := s.client.Do(ctx, rest.Request{
		Method: http.MethodGet, URL: s.objectURL(key) + "?alt=media",
		Header: http.Header{"Accept-Encoding": {"gzip"}}, // else the store decompresses what has this encoding
	})
	if err == nil && resp.StatusCode != http.StatusOK {
		err = readFailure(resp)
	}
	if err != nil {
		return nil, s.explain(read, key, err)
	}
	return resp.Body, nil
}

// Delete implements [store.Store].
func (s *Store) Delete(ctx context.Context, key string) error {
	err := s.explain(remove, key, s.call(ctx, rest.Request{Method: http.MethodDelete, URL: s.objectURL(key)}, nil))
	if errors.Is(err, store.ErrNotExist) {
		return nil
	}
	return err
}

// AbortUploads implements [store.Store]. It does nothing: uploads that did not end are invisible,
// cannot be listed, and expire by themselves. If one of them ended later, it would not replace the
// object.
func (s *Store) AbortUploads(context.Context, string) error { return nil }

// List implements [store.Store].
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		query := url.Values{"prefix": {s.prefix + prefix}, "fields": {"nextPageToken,items(" + resourceFields + ")"}}
		for {
			var page struct {
				NextPageToken string     `json:"nextPageToken"`
				Items         []resource `json:"items"`
			}
			at := s.base + "/storage/v1/b/" + url.PathEscape(s.bucket) + "/o?" + query.Encode()
			if err := s.call(ctx, rest.Request{Method: http.MethodGet, URL: at}, &page); err != nil {
				yield(store.Object{}, s.explain(list, prefix, err))
				return
			}
			for _, r := range page.Items {
				o, err := s.object(r)
				if !yield(o, s.explain(list, prefix, err)) || err != nil {
					return
				}
			}
			switch page.NextPageToken {
			case "":
				return
			case query.Get("pageToken"):
				yield(store.Object{}, s.explain(list, prefix, fmt.Errorf("the store does not list all objects: the list does not continue after %q", page.NextPageToken)))
				return
			}
			query.Set("pageToken", page.NextPageToken)
		}
	}
}

// maxResponse is more than a list of 1000 objects with 8 KiB of metadata has.
const maxResponse = 16 << 20

// call sends a request, and decodes the response into result unless that is nil.
func (s *Store) call(ctx context.Context, r rest.Request, result any) error {
	resp, err := s.client.Do(ctx, r)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return readFailure(resp)
	}
	defer resp.Body.Close()
	if result == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxResponse)).Decode(result); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("invalid response of the store: %w", err)
	}
	return nil
}
