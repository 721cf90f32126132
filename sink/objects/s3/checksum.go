package s3

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"

	"kcagent/sink/objects/transport"
)

// Headers that the client does not know as options of a request.
const (
	headerCRC32     = "x-amz-checksum-crc32"
	headerAlgorithm = "x-amz-checksum-algorithm" // of the parts of an upload
)

// algorithms is a set of the checksums that a request has, and that the store compares with the
// content.
type algorithms uint32

const (
	// useSHA256 is part of the signature. It protects the content from others without TLS.
	useSHA256 algorithms = 1 << iota
	// useMD5 is known to every store, and takes a second of CPU time for half a gigabyte.
	useMD5
	// useCRC32 takes nearly no CPU time. It is the checksum of Amazon's clients since 2025. Older
	// stores ignore or reject it.
	useCRC32
)

// algorithms returns the checksums of the next upload. With TLS, uploads have both until it is known
// which one the store compares.
func (s *Store) algorithms() algorithms {
	known := algorithms(s.known.Load())
	switch {
	case s.client.EndpointURL().Scheme != "https":
		return useSHA256
	case known != 0:
		return known
	}
	return useMD5 | useCRC32
}

// withChecksums calls an upload. If the store rejects the CRC32, it is called again with an MD5, and
// so are the following ones.
func (s *Store) withChecksums(upload func(algorithms) error) error {
	use := s.algorithms()
	err := upload(use)
	if use&useCRC32 == 0 || !rejectsChecksum(err) {
		return err
	}
	if err = upload(useMD5); err == nil { // else the store may lack another header
		s.known.Store(uint32(useMD5))
	}
	return err
}

// rejectsChecksum reports whether a store does not know a header of a checksum. A checksum that
// differs from that of the content is another error.
func rejectsChecksum(err error) bool {
	r := minio.ToErrorResponse(err)
	unknown := r.Code == "InvalidArgument" || r.Code == "InvalidRequest"
	return notImplemented(err) || r.StatusCode == http.StatusBadRequest && unknown && strings.Contains(strings.ToLower(r.Message), "checksum")
}

// learn notes whether the store has compared the CRC32 of a request that has succeeded: it returns
// it then. A store that has ignored it compares the MD5.
func (s *Store) learn(sent checksums, returned string, err error) {
	switch {
	case err != nil || sent.crc32 == "":
	case returned == sent.crc32:
		s.known.Store(uint32(useCRC32))
	default:
		s.known.Store(uint32(useMD5))
	}
}

// checksums has the checksums of the content of a request; empty if it has none of the kind.
type checksums struct {
	md5, crc32 string // in base64
	sha256     string // in hexadecimal
}

// checksumsOf reads the content of a request.
func checksumsOf(ctx context.Context, body io.ReaderAt, size int64, use algorithms) (checksums, error) {
	sha, md, crc := sha256.New(), md5.New(), crc32.NewIEEE()
	var hashes []io.Writer
	for algorithm, h := range map[algorithms]hash.Hash{useSHA256: sha, useMD5: md, useCRC32: crc} {
		if use&algorithm != 0 {
			hashes = append(hashes, h)
		}
	}
	if err := transport.Hash(ctx, io.MultiWriter(hashes...), body, 0, size); err != nil {
		return checksums{}, err
	}
	var sums checksums
	if use&useSHA256 != 0 {
		sums.sha256 = hex.EncodeToString(sha.Sum(nil))
	}
	if use&useMD5 != 0 {
		sums.md5 = base64.StdEncoding.EncodeToString(md.Sum(nil))
	}
	if use&useCRC32 != 0 {
		sums.crc32 = base64.StdEncoding.EncodeToString(crc.Sum(nil))
	}
	return sums, nil
}
