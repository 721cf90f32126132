package azure

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"kcagent/sink/objects/rest"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/transport"
)

// Put implements [store.Store].
func (s *Store) Put(ctx context.Context, key string, body io.ReaderAt, size int64, a store.Attributes) error {
	err := ctx.Err()
	switch {
	case err != nil:
	case size <= s.whole:
		err = s.putWhole(ctx, key, body, size, a)
	default:
		err = s.putBlocks(ctx, key, body, size, a)
	}
	return s.explain(upload, key, err)
}

// attributes returns the headers of the request that makes an object visible.
func (s *Store) attributes(a store.Attributes) http.Header {
	h := http.Header{"If-None-Match": {"*"}}
	set := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	set("X-Ms-Blob-Content-Type", a.ContentType)
	set("X-Ms-Blob-Content-Encoding", a.ContentEncoding)
	set("X-Ms-Access-Tier", s.tier)
	set("X-Ms-Tags", s.tags)
	for name, value := range a.Meta {
		set(metaHeader+name, value)
	}
	return h
}

// putWhole uploads an object in one request.
func (s *Store) putWhole(ctx context.Context, key string, body io.ReaderAt, size int64, a store.Attributes) error {
	sum, err := checksum(ctx, body, 0, size)
	if err != nil {
		return err
	}
	h := s.attributes(a)
	h.Set("X-Ms-Blob-Type", "BlockBlob")
	h.Set("Content-Md5", sum)
	return s.send(ctx, rest.Request{Method: http.MethodPut, URL: s.objectURL(key), Header: h, Body: rest.Section(body, 0, size), Size: size})
}

// putBlocks uploads an object in blocks, and joins them. The names of the blocks are random: the
// store would mix blocks of the same name from two uploads of a key.
func (s *Store) putBlocks(ctx context.Context, key string, body io.ReaderAt, size int64, a store.Attributes) error {
	block := max(s.block, (size+maxBlocks-1)/maxBlocks)
	upload := make([]byte, 12)
	_, _ = rand.Read(upload) // it never fails
	var joined strings.Builder
	joined.WriteString(`<?xml version="1.0" encoding="utf-8"?><BlockList>`)
	for at := int64(0); at < size; at += block {
		n := min(block, size-at)
		sum, err := checksum(ctx, body, at, n)
		if err != nil {
			return err
		}
		// All names of an object must have the same length.
		id := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(upload[:12:12], uint32(at/block)))
		if err := s.send(ctx, rest.Request{
			Method: http.MethodPut, URL: s.objectURL(key) + "?comp=block&blockid=" + url.QueryEscape(id),
			Header: http.Header{"Content-Md5": {sum}}, Body: rest.Section(body, at, n), Size: n,
		}); err != nil {
			return err
		}
		joined.WriteString("<Uncommitted>" + id + "</Uncommitted>")
	}
	joined.WriteString("</BlockList>")
	return s.send(ctx, rest.Request{
		Method: http.MethodPut, URL: s.objectURL(key) + "?comp=blocklist", Header: s.attributes(a),
		Body: rest.Bytes(joined.String()), Size: int64(joined.Len()),
	})
}

// checksum returns the checksum of a part of the content.
func checksum(ctx context.Context, body io.ReaderAt, at, size int64) (string, error) {
	sum := md5.New()
	err := transport.Hash(ctx, sum, body, at, size)
	return base64.StdEncoding.EncodeToString(sum.Sum(nil)), err
}

// send sends a part of an upload.
func (s *Store) send(ctx context.Context, r rest.Request) error {
	resp, err := s.call(ctx, r)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusCreated { // a web server that responds to each request stores nothing
		_ = resp.Body.Close()
		return fmt.Errorf("invalid response of the store: status %d of an upload", resp.StatusCode)
	}
	return resp.Body.Close()
}
