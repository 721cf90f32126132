// Package s3 stores objects in Amazon S3 and in every store with its API.
//
// An object of up to 32 MiB is one request. A larger one is uploaded in parts, one after the
// other, each read from the body as it is sent: twice, because its checksum precedes it. So an
// upload needs buffers of some 100 KiB, whatever the size of the object.
//
// Each request with content has a checksum that the store compares; S3 requires one for buckets with
// object lock. Without TLS, it is a SHA-256, which the signature covers, so that a change of the content
// on its way is rejected. With TLS, it is a CRC32, if the store knows it, because hashes take more CPU
// time than all else of an upload. Until the store has returned a CRC32 with a response, which says
// that it has compared it, requests have Content-MD5, too, which every store knows.
//
// Uploads have If-None-Match: *, so that they replace no object. A store that does not implement
// the header gets requests without it after the first that it has rejected.
package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"
	"github.com/minio/minio-go/v7/pkg/tags"

	"kcagent/sink"
	"kcagent/sink/objects/store"
)

// A Store is a bucket, or what is below a prefix of it. It implements [store.Store].
type Store struct {
	bucket, prefix string // the prefix is empty or ends with a slash
	region, host   string
	spec           *sink.ObjectsSpec
	client         *minio.Core
	transport      *observer
	source         source
	encryption     encrypt.ServerSide // nil is that of the bucket
	tuning         tuning

	unconditional atomic.Bool   // the store does not implement If-None-Match
	known         atomic.Uint32 // algorithms that the store compares, with TLS; 0 is unknown
}

// tuning are the constants that tests change.
type tuning struct {
	stall      time.Duration // a request fails if no piece of it, of up to 32 KiB, moves for so long
	completion time.Duration // the same for the end of an upload, whose parts the store joins
	single     int64         // largest object that is one request
	part       int64         // smallest part; 10,000 parts must hold the object
	pause      time.Duration // before the second attempt of a request
}

var standard = tuning{stall: 30 * time.Second, completion: 5 * time.Minute, single: 32 << 20, part: 32 << 20, pause: 200 * time.Millisecond}

// Open returns the store of an s3:// URL. It sends no request.
func Open(ctx context.Context, spec *sink.ObjectsSpec) (store.Store, error) {
	s, err := open(ctx, spec, standard)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", spec.URL, err)
	}
	return s, nil
}

func open(ctx context.Context, spec *sink.ObjectsSpec, tune tuning) (*Store, error) {
	bucket, prefix, err := store.ParseURL(spec.URL, "s3://bucket/prefix")
	if err != nil {
		return nil, err
	}
	s := &Store{bucket: bucket, prefix: prefix, spec: spec, region: spec.Region, tuning: tune}
	if s.region == "" {
		region, err := environmentRegion(ctx)
		if err != nil {
			return nil, err
		}
		s.region = region
	}
	if err := s.attributes(); err != nil {
		return nil, err
	}
	return s, s.connect()
}

// attributes checks what is the same for all objects.
func (s *Store) attributes() error {
	switch e := s.spec.ServerSideEncryption; {
	case e == "":
	case e == "AES256":
		s.encryption = encrypt.NewSSE()
	default:
		kms, err := encrypt.NewSSEKMS(e, nil)
		if err != nil {
			return fmt.Errorf("invalid server_side_encryption: %w", err)
		}
		s.encryption = kms
	}
	if _, err := tags.NewTags(s.spec.Tags, true); err != nil {
		return fmt.Errorf("invalid tags: %w", err)
	}
	return nil
}

// connect creates the client.
func (s *Store) connect() error {
	lookup, secure := minio.BucketLookupAuto, true // a bucket with dots needs the path because of the certificate
	s.host = "s3.amazonaws.com"                    // the client adds the region
	if s.spec.Endpoint != "" {
		at, err := url.Parse(s.spec.Endpoint)
		if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" || strings.Trim(at.Path, "/") != "" || at.User != nil {
			return errors.New("invalid endpoint: use http://host:port or https://host:port")
		}
		lookup, secure, s.host = minio.BucketLookupDNS, at.Scheme == "https", at.Host
		if _, err := netip.ParseAddr(at.Hostname()); err == nil {
			lookup = minio.BucketLookupPath // an address has no names below it
		}
	}
	if s.spec.PathStyle {
		lookup = minio.BucketLookupPath
	}
	var err error
	if s.transport, err = newObserver(s.spec.TLS, s.tuning); err != nil {
		return err
	}
	s.source = newSource(s.spec.Credentials, s.region)
	s.client, err = minio.NewCore(s.host, &minio.Options{
		Creds: credentials.New(s.source), Secure: secure, Region: s.region, BucketLookup: lookup,
		Transport: s.transport, MaxRetries: 1, // attempt retries
	})
	if err != nil {
		return fmt.Errorf("invalid endpoint: %w", err)
	}
	s.client.SetS3EnableDualstack(false) // the names that firewalls and private endpoints know
	return nil
}

// Close implements [store.Store].
func (s *Store) Close() { s.transport.CloseIdleConnections() }

func (s *Store) key(key string) string { return s.prefix + key }

// attempts is how often a request is sent that may succeed soon.
const attempts = 3

// attempt calls f until it succeeds, at most 3 times. It returns the last error as it is.
func (s *Store) attempt(ctx context.Context, f func() error) error {
	pause := s.tuning.pause
	for n := 1; ; n++ {
		err := f()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if credentialsRejected(err) {
			s.source.reject() // the caller's next attempt reads them again
		}
		if n == attempts || !transient(err) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
		pause *= 4
	}
}

// Head implements [store.Store].
func (s *Store) Head(ctx context.Context, key string) (store.Object, error) {
	var info minio.ObjectInfo
	err := s.attempt(ctx, func() (err error) {
		info, err = s.client.StatObject(ctx, s.bucket, s.key(key), minio.StatObjectOptions{})
		return err
	})
	if status(err) == http.StatusForbidden || status(err) == http.StatusBadRequest {
		// The response to HEAD has no body, so it does not say what was wrong. That to GET does.
		body, getErr := s.Open(ctx, key)
		if getErr != nil {
			return store.Object{}, getErr
		}
		_ = body.Close()
	}
	if err != nil {
		return store.Object{}, s.explain(ctx, lookUp, key, err)
	}
	o := store.Object{Key: key, Size: info.Size, Modified: info.LastModified}
	o.ContentType, o.ContentEncoding = info.ContentType, info.Metadata.Get("Content-Encoding")
	if len(info.UserMetadata) > 0 {
		o.Meta = make(map[string]string, len(info.UserMetadata))
		for name, value := range info.UserMetadata {
			o.Meta[strings.ToLower(name)] = value
		}
	}
	return o, nil
}

// Open implements [store.Store].
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	var body io.ReadCloser
	err := s.attempt(ctx, func() (err error) {
		body, _, _, err = s.client.GetObject(ctx, s.bucket, s.key(key), minio.GetObjectOptions{})
		return err
	})
	if err != nil {
		return nil, s.explain(ctx, read, key, err)
	}
	return &content{body, ctx, s, key}, nil
}

// content explains the errors of a body.
type content struct {
	io.ReadCloser
	ctx context.Context
	s   *Store
	key string
}

func (c *content) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = c.s.explain(c.ctx, read, c.key, err)
	}
	return n, err
}

// Delete implements [store.Store].
func (s *Store) Delete(ctx context.Context, key string) error {
	err := s.attempt(ctx, func() error {
		return s.client.RemoveObject(ctx, s.bucket, s.key(key), minio.RemoveObjectOptions{})
	})
	if minio.ToErrorResponse(err).Code == "NoSuchKey" {
		return nil
	}
	return s.explain(ctx, remove, key, err)
}

// List implements [store.Store].
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		noOwner, first, last, ended := false, "", "", false
		err := s.attempt(ctx, func() error {
			for o := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.key(prefix), Recursive: true, StartAfter: last, FetchOwner: &noOwner}) {
				if o.Err != nil {
					return o.Err
				}
				if o.Key == first {
					return fmt.Errorf("the store does not list all objects: the list does not continue after %q", last)
				}
				last = o.Key // a further attempt continues there
				first = cmp.Or(first, last)
				if ended = !yield(store.Object{Key: strings.TrimPrefix(o.Key, s.prefix), Size: o.Size, Modified: o.LastModified}, nil); ended {
					return nil
				}
			}
			return ctx.Err()
		})
		if err != nil && !ended {
			yield(store.Object{}, s.explain(ctx, list, prefix, err))
		}
	}
}
