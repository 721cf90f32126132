package gcs

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"kcagent/sink/objects/rest"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/transport"
)

// Put implements [store.Store].
func (s *Store) Put(ctx context.Context, key string, body io.ReaderAt, size int64, a store.Attributes) error {
	if err := ctx.Err(); err != nil {
		return s.explain(upload, key, err)
	}
	sum, err := checksum(ctx, body, size)
	if err != nil {
		return s.explain(upload, key, err)
	}
	description, err := json.Marshal(resource{
		Name: s.prefix + key, ContentType: a.ContentType, ContentEncoding: a.ContentEncoding,
		StorageClass: s.class, CRC32C: sum, Metadata: a.Meta,
	})
	if err != nil {
		return s.explain(upload, key, err)
	}
	if size <= s.part {
		err = s.putWhole(ctx, key, description, body, size, a)
	} else {
		err = s.putParts(ctx, description, body, size)
	}
	return s.explain(upload, key, err)
}

// checksum returns the checksum of the content.
func checksum(ctx context.Context, body io.ReaderAt, size int64) (string, error) {
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	err := transport.Hash(ctx, sum, body, 0, size)
	return base64.StdEncoding.EncodeToString(sum.Sum(nil)), err
}

// uploadURL returns the URL of an upload that replaces no object.
func (s *Store) uploadURL(kind string) string {
	return s.base + "/upload/storage/v1/b/" + url.PathEscape(s.bucket) + "/o?ifGenerationMatch=0&fields=name&uploadType=" + kind
}

// putWhole uploads an object in one request, which has two parts: description and content.
func (s *Store) putWhole(ctx context.Context, key string, description []byte, body io.ReaderAt, size int64, a store.Attributes) error {
	boundary := rand.Text()
	contentType := a.ContentType
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	head := fmt.Sprintf("--%s\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%s\r\n--%s\r\nContent-Type: %s\r\n\r\n",
		boundary, description, boundary, contentType)
	end := "\r\n--" + boundary + "--\r\n"
	var stored resource
	err := s.call(ctx, rest.Request{
		Method: http.MethodPost, URL: s.uploadURL("multipart"),
		Header: http.Header{"Content-Type": {"multipart/related; boundary=" + boundary}},
		Body: func() io.Reader {
			return io.MultiReader(strings.NewReader(head), io.NewSectionReader(body, 0, size), strings.NewReader(end))
		},
		Size: int64(len(head)+len(end)) + size,
	}, &stored)
	if err == nil && stored.Name != s.prefix+key {
		err = errNoObject // a web server that responds to each request stores nothing
	}
	return err
}

// putParts uploads an object in parts.
func (s *Store) putParts(ctx context.Context, description []byte, body io.ReaderAt, size int64) error {
	session, err := s.beginUpload(ctx, description, size)
	if err != nil {
		return err
	}
	failures := 0
	for at := int64(0); ; {
		next, done, err := s.putPart(ctx, session, body, at, size)
		switch {
		case err == nil && done:
			return nil
		case err == nil && next > at:
			at, failures = next, 0
			continue
		case err == nil:
			err = errors.New("the store does not keep what was uploaded")
		}
		if failures++; failures == maxFailures || ctx.Err() != nil || !interrupted(err) {
			return err
		}
		if at, done, err = s.received(ctx, session, size); err != nil || done {
			return err
		}
	}
}

// maxFailures is how often a part is sent. Before each repetition, the client waits, and then requests
// how much the store has.
const maxFailures = 3

// interrupted reports whether an upload can continue.
func interrupted(err error) bool {
	f, ok := errors.AsType[*failure](err)
	return !ok || f.status/100 == 5 || f.status == http.StatusTooManyRequests || f.status == http.StatusRequestTimeout
}

// beginUpload returns the URL of a resumable upload. The URL is a secret: it needs no credentials.
func (s *Store) beginUpload(ctx context.Context, description []byte, size int64) (string, error) {
	resp, err := s.client.Do(ctx, rest.Request{
		Method: http.MethodPost, URL: s.uploadURL("resumable"),
		Header: http.Header{
			"Content-Type":            {"application/json; charset=UTF-8"},
			"X-Upload-Content-Length": {strconv.FormatInt(size, 10)},
		},
		Body: func() io.Reader { return bytes.NewReader(description) }, Size: int64(len(description)),
	})
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", readFailure(resp)
	}
	defer resp.Body.Close()
	if session := resp.Header.Get("Location"); session != "" {
		return session, nil
	}
	return "", errors.New("invalid response of the store: no URL for the upload")
}

// putPart uploads the part that begins at a position. It returns where the next one begins, or that
// the object is complete.
func (s *Store) putPart(ctx context.Context, session string, body io.ReaderAt, at, size int64) (next int64, done bool, err error) {
	n := min(s.part, size-at)
	return s.session(ctx, rest.Request{
		Method: http.MethodPut, URL: session,
		Header: http.Header{"Content-Range": {fmt.Sprintf("bytes %d-%d/%d", at, at+n-1, size)}},
		Body:   rest.Section(body, at, n), Size: n,
		Once: true, // the store may have a part of it
	})
}

// received returns how many bytes of an upload the store has.
func (s *Store) received(ctx context.Context, session string, size int64) (next int64, done bool, err error) {
	return s.session(ctx, rest.Request{
		Method: http.MethodPut, URL: session,
		Header: http.Header{"Content-Range": {fmt.Sprintf("bytes */%d", size)}},
	})
}

// lastReceived is the header of a response to an upload that is not complete.
var lastReceived = regexp.MustCompile(`^bytes=0-(\d+)$`)

func (s *Store) session(ctx context.Context, r rest.Request) (next int64, done bool, err error) {
	resp, err := s.client.Do(ctx, r)
	switch {
	case err != nil:
		return 0, false, err
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusCreated:
		return 0, true, resp.Body.Close()
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone:
		_ = resp.Body.Close()
		return 0, false, errors.New("the store has dropped the unfinished upload; it begins again")
	case resp.StatusCode != http.StatusPermanentRedirect:
		return 0, false, readFailure(resp)
	}
	_ = resp.Body.Close()
	found := lastReceived.FindStringSubmatch(resp.Header.Get("Range"))
	if found == nil {
		return 0, false, nil // nothing
	}
	last, err := strconv.ParseInt(found[1], 10, 64)
	return last + 1, false, err
}
