// Package azure stores objects in Azure Blob Storage, as block blobs, through its REST API.
//
// An object of up to 32 MiB is one request. A larger one is uploaded in blocks, one after the
// other, each read from the body while it is sent, and then one request joins them.
//
// Both have If-None-Match: *, so that they replace no object. Blocks that were not joined are
// invisible. The store deletes them after a week, or when another upload of the key succeeds.
package azure

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"kcagent/sink"
	"kcagent/sink/objects/rest"
	"kcagent/sink/objects/store"
)

// Store is a container, or what is below a prefix of it. It implements [store.Store].
type Store struct {
	container, prefix string // the prefix is empty or ends with a slash
	base              string // of all URLs, without a slash at the end
	tier, tags        string // of objects; "" is none
	client            *rest.Client
	access            access
	block             int64 // size of the blocks of an object that needs at most 50,000
	whole             int64 // largest object that is one request
}

const (
	blockSize = 32 << 20
	maxBlocks = 50_000
	// apiVersion is the oldest that has all features in use, for the sake of emulators.
	apiVersion = "2021-12-02"
)

// Open returns the store of an az:// URL. It sends no request.
//
// The credentials are the account key, the shared access signature, or the default chain of Azure. The
// URL of an emulator ends with the account, as in http://127.0.0.1:10000/devstoreaccount1.
func Open(_ context.Context, spec *sink.ObjectsSpec) (store.Store, error) {
	s, err := open(spec)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", spec.URL, err)
	}
	return s, nil
}

func open(spec *sink.ObjectsSpec) (*Store, error) {
	container, prefix, err := store.ParseURL(spec.URL, "az://container/prefix")
	if err != nil {
		return nil, err
	}
	s := &Store{container: container, prefix: prefix, tier: spec.StorageClass, block: blockSize, whole: blockSize}
	tags := make(url.Values)
	for name, value := range spec.Tags {
		tags.Set(name, value)
	}
	s.tags = strings.ReplaceAll(tags.Encode(), "+", "%20")
	switch {
	case spec.Endpoint != "":
		s.base = strings.TrimRight(spec.Endpoint, "/")
	case spec.Account != "":
		s.base = "https://" + spec.Account + ".blob.core.windows.net"
	default:
		return nil, errors.New("account missing; set account, or endpoint")
	}
	at, err := url.Parse(s.base)
	if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return nil, errors.New("invalid endpoint: use https://host or http://host:port/account")
	}
	if s.access, err = newAccess(spec, at); err != nil {
		return nil, err
	}
	s.client, err = rest.NewClient(at.Host, spec.TLS, s.authorize)
	return s, err
}

// Close implements [store.Store].
func (s *Store) Close() { s.client.Close() }

func (s *Store) authorize(r *http.Request) error {
	r.Header.Set("X-Ms-Version", apiVersion)
	r.Header.Set("X-Ms-Date", time.Now().UTC().Format(http.TimeFormat))
	return s.access.authorize(r)
}

// objectURL returns the URL of an object.
func (s *Store) objectURL(key string) string {
	elements := strings.Split(s.prefix+key, "/")
	for i, e := range elements {
		elements[i] = url.PathEscape(e)
	}
	return s.base + "/" + s.container + "/" + strings.Join(elements, "/")
}

// metaHeader is the prefix of headers with metadata. The rest must be an identifier of C#, such as
// letters and digits. The store does not keep its case.
const metaHeader = "X-Ms-Meta-"

// Head implements [store.Store].
func (s *Store) Head(ctx context.Context, key string) (store.Object, error) {
	resp, err := s.call(ctx, rest.Request{Method: http.MethodHead, URL: s.objectURL(key)})
	if err != nil {
		return store.Object{}, s.explain(lookUp, key, err)
	}
	_ = resp.Body.Close()
	o := store.Object{Key: key, Size: resp.ContentLength, Attributes: store.Attributes{
		ContentType: resp.Header.Get("Content-Type"), ContentEncoding: resp.Header.Get("Content-Encoding"),
	}}
	if o.Modified, err = http.ParseTime(resp.Header.Get("Last-Modified")); err != nil || o.Size < 0 {
		return store.Object{}, s.explain(lookUp, key, errors.New("invalid response of the store: no object"))
	}
	for name, values := range resp.Header {
		if meta, ok := strings.CutPrefix(name, metaHeader); ok && len(values) > 0 {
			if o.Meta == nil {
				o.Meta = make(map[string]string)
			}
			o.Meta[strings.ToLower(meta)] = values[0]
		}
	}
	return o, nil
}

// Open implements [store.Store].
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	resp, err := s.call(ctx, rest.Request{Method: http.MethodGet, URL: s.objectURL(key)})
	if err != nil {
		return nil, s.explain(read, key, err)
	}
	return resp.Body, nil
}

// Delete implements [store.Store].
func (s *Store) Delete(ctx context.Context, key string) error {
	resp, err := s.call(ctx, rest.Request{
		Method: http.MethodDelete, URL: s.objectURL(key),
		Header: http.Header{"X-Ms-Delete-Snapshots": {"include"}},
	})
	if err == nil {
		return resp.Body.Close()
	}
	if err = s.explain(remove, key, err); errors.Is(err, store.ErrNotExist) {
		return nil
	}
	return err
}

// AbortUploads implements [store.Store]. It does nothing: the API cannot delete blocks that were
// not joined. They are invisible, and the next upload of the key removes them: an older one that
// ends later fails.
func (s *Store) AbortUploads(context.Context, string) error { return nil }

// A page is a part of a list.
type page struct {
	Blobs []struct {
		Name struct {
			Encoded bool   `xml:"Encoded,attr"`
			Text    string `xml:",chardata"`
		} `xml:"Name"`
		Properties struct {
			Modified string `xml:"Last-Modified"`
			Size     int64  `xml:"Content-Length"`
		} `xml:"Properties"`
	} `xml:"Blobs>Blob"`
	NextMarker string `xml:"NextMarker"`
}

// maxResponse is more than a list of 5000 objects has.
const maxResponse = 32 << 20

// List implements [store.Store]. The attributes are missing.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		query := url.Values{"restype": {"container"}, "comp": {"list"}, "prefix": {s.prefix + prefix}}
		for {
			p, err := s.page(ctx, s.base+"/"+s.container+"?"+query.Encode())
			if err != nil {
				yield(store.Object{}, s.explain(list, prefix, err))
				return
			}
			for _, b := range p.Blobs {
				name := b.Name.Text
				if b.Name.Encoded {
					name, err = url.PathUnescape(name)
				}
				key, ok := strings.CutPrefix(name, s.prefix)
				modified, timeErr := http.ParseTime(b.Properties.Modified)
				if err != nil || timeErr != nil || !ok {
					yield(store.Object{}, s.explain(list, prefix, errors.New("invalid response of the store: no object")))
					return
				}
				if !yield(store.Object{Key: key, Size: b.Properties.Size, Modified: modified}, nil) {
					return
				}
			}
			switch p.NextMarker {
			case "":
				return
			case query.Get("marker"):
				yield(store.Object{}, s.explain(list, prefix, fmt.Errorf("the store does not list all objects: the list does not continue after %q", p.NextMarker)))
				return
			}
			query.Set("marker", p.NextMarker)
		}
	}
}

func (s *Store) page(ctx context.Context, at string) (p page, err error) {
	resp, err := s.call(ctx, rest.Request{Method: http.MethodGet, URL: at})
	if err != nil {
		return p, err
	}
	defer resp.Body.Close()
	if err := xml.NewDecoder(io.LimitReader(resp.Body, maxResponse)).Decode(&p); err != nil {
		if ctx.Err() != nil {
			return p, ctx.Err()
		}
		return p, fmt.Errorf("invalid response of the store: %w", err)
	}
	return p, nil
}

// call sends a request. A response that rejects it is an error; the caller closes any other.
func (s *Store) call(ctx context.Context, r rest.Request) (*http.Response, error) {
	resp, err := s.client.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, readFailure(resp)
	}
	return resp, nil
}
