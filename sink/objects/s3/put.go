package s3

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"

	"kcagent/sink/objects/store"
)

// maxParts is how many parts an upload may have.
const maxParts = 10_000

// Put implements [store.Store].
func (s *Store) Put(ctx context.Context, key string, body io.ReaderAt, size int64, a store.Attributes) error {
	upload := s.putParts
	if size <= s.tuning.single {
		upload = s.putWhole
	}
	return s.explain(ctx, put, key, s.withChecksums(func(use algorithms) error { return upload(ctx, key, body, size, a, use) }))
}

// options returns the attributes of an object.
func (s *Store) options(a store.Attributes) minio.PutObjectOptions {
	o := minio.PutObjectOptions{
		ContentType: a.ContentType, ContentEncoding: a.ContentEncoding,
		ServerSideEncryption: s.encryption, StorageClass: s.spec.StorageClass, UserTags: s.spec.Tags,
		UserMetadata:         make(map[string]string, len(a.Meta)),
		DisableContentSha256: true, // the whole content is hashed, instead of its chunks in an encoding that not all stores know
	}
	for name, value := range a.Meta {
		o.UserMetadata["x-amz-meta-"+name] = value // the client takes names such as expires for headers otherwise
	}
	return o
}

// putWhole uploads an object by one request.
func (s *Store) putWhole(ctx context.Context, key string, body io.ReaderAt, size int64, a store.Attributes, use algorithms) error {
	sums, err := checksumsOf(ctx, body, size, use)
	if err != nil {
		return err
	}
	o := s.options(a)
	if sums.crc32 != "" {
		o.UserMetadata[headerCRC32] = sums.crc32
	}
	return s.conditionally(ctx, o, func(o minio.PutObjectOptions) error {
		info, err := s.client.PutObject(ctx, s.bucket, s.key(key), io.NewSectionReader(body, 0, size), size, sums.md5, sums.sha256, o)
		if err == nil && info.ETag == "" {
			return errNoStore // each store returns one, but not a web server that responds to everything
		}
		s.learn(sums, info.ChecksumCRC32, err)
		return err
	})
}

// conditionally calls f with the option that no object is replaced. If the store does not
// implement it, f is called without it, and so are the following calls.
func (s *Store) conditionally(ctx context.Context, o minio.PutObjectOptions, f func(minio.PutObjectOptions) error) error {
	plain := o
	o.SetMatchETagExcept("*")
	if !s.unconditional.Load() {
		err := s.attempt(ctx, func() error { return f(o) })
		if !notImplemented(err) {
			return err
		}
	}
	err := s.attempt(ctx, func() error { return f(plain) })
	if err == nil { // else the store may lack another header
		s.unconditional.Store(true)
	}
	return err
}

// putParts uploads an object in parts.
func (s *Store) putParts(ctx context.Context, key string, body io.ReaderAt, size int64, a store.Attributes, use algorithms) (err error) {
	o := s.options(a)
	if use&useCRC32 != 0 {
		o.UserMetadata[headerAlgorithm] = "CRC32"
	}
	var id string
	err = s.attempt(ctx, func() (err error) {
		id, err = s.client.NewMultipartUpload(ctx, s.bucket, s.key(key), o)
		return err
	})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.abortFailed(ctx, key, id)
		}
	}()
	part := s.partSize(size)
	parts := make([]minio.CompletePart, 0, (size+part-1)/part)
	for at := int64(0); at < size; at += part {
		p, err := s.putPart(ctx, key, id, len(parts)+1, io.NewSectionReader(body, at, min(part, size-at)), use)
		if err != nil {
			return err
		}
		parts = append(parts, p)
	}
	return s.conditionally(ctx, minio.PutObjectOptions{}, func(o minio.PutObjectOptions) error {
		_, err := s.client.CompleteMultipartUpload(ctx, s.bucket, s.key(key), id, parts, o)
		return err
	})
}

// partSize returns the size of each part but the last.
func (s *Store) partSize(size int64) int64 {
	const unit = 1 << 20
	least := (size + maxParts - 1) / maxParts
	return max(s.tuning.part, (least+unit-1)/unit*unit)
}

func (s *Store) putPart(ctx context.Context, key, id string, number int, body *io.SectionReader, use algorithms) (minio.CompletePart, error) {
	sums, err := checksumsOf(ctx, body, body.Size(), use)
	if err != nil {
		return minio.CompletePart{}, err
	}
	o := minio.PutObjectPartOptions{Md5Base64: sums.md5, Sha256Hex: sums.sha256, DisableContentSha256: true}
	if sums.crc32 != "" {
		o.CustomHeader = http.Header{http.CanonicalHeaderKey(headerCRC32): {sums.crc32}}
	}
	var p minio.ObjectPart
	err = s.attempt(ctx, func() (err error) {
		p, err = s.client.PutObjectPart(ctx, s.bucket, s.key(key), id, number, io.NewSectionReader(body, 0, body.Size()), body.Size(), o)
		s.learn(sums, p.ChecksumCRC32, err)
		return err
	})
	return minio.CompletePart{PartNumber: number, ETag: p.ETag, ChecksumCRC32: sums.crc32}, err
}

// abortTimeout bounds how long a failed upload waits until the store has removed its parts. A stop
// of the consumer waits for it, in addition to the time for uploads.
const abortTimeout = 2 * time.Second

// abortFailed removes the parts of an upload, also if ctx has ended. If it fails, they remain until
// AbortUploads, or a lifecycle rule of the bucket.
func (s *Store) abortFailed(ctx context.Context, key, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	_ = s.client.AbortMultipartUpload(ctx, s.bucket, s.key(key), id)
}

// AbortUploads implements [store.Store].
func (s *Store) AbortUploads(ctx context.Context, key string) error {
	ids, err := s.uploads(ctx, key)
	if err != nil {
		return s.explain(ctx, listUploads, key, err)
	}
	for _, id := range ids {
		err := s.attempt(ctx, func() error { return s.client.AbortMultipartUpload(ctx, s.bucket, s.key(key), id) })
		if code := minio.ToErrorResponse(err).Code; err != nil && code != "NoSuchUpload" { // it may have ended meanwhile
			return s.explain(ctx, abort, key, err)
		}
	}
	return nil
}

// uploads returns the ids of the unfinished uploads of exactly this key.
func (s *Store) uploads(ctx context.Context, key string) ([]string, error) {
	var ids []string
	var after, afterID string
	for {
		var page minio.ListMultipartUploadsResult
		err := s.attempt(ctx, func() (err error) {
			page, err = s.client.ListMultipartUploads(ctx, s.bucket, s.key(key), after, afterID, "", 1000)
			return err
		})
		if notImplemented(err) {
			return nil, nil // then the store keeps none
		}
		if err != nil {
			return nil, err
		}
		for _, u := range page.Uploads {
			if u.Key == s.key(key) {
				ids = append(ids, u.UploadID)
			}
		}
		if !page.IsTruncated {
			return ids, nil
		}
		if page.NextKeyMarker == after && page.NextUploadIDMarker == afterID {
			return nil, fmt.Errorf("the store does not list all unfinished uploads: the list does not continue after %q", after)
		}
		after, afterID = page.NextKeyMarker, page.NextUploadIDMarker
	}
}
