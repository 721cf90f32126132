package batch

import (
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy/xerial"
)

// decompressSnappy decompresses snappy, whose header has the decompressed size.
func decompressSnappy(src []byte, limit int64, m room) ([]byte, error) {
	size, err := snappySize(src)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, &sizeError{size: size}
	}
	var dst []byte
	if size <= maxPooled {
		if dst, err = m.get(int(size), 0); err != nil {
			return nil, err
		}
	} else {
		if err := m.reserve(size); err != nil {
			return nil, err
		}
		dst = make([]byte, 0, size)
	}
	out, err := xerial.DecodeCapped(dst, src)
	if err != nil {
		if size <= maxPooled {
			m.put(dst)
		}
		return nil, err
	}
	return out, nil
}

// snappySize returns the decompressed size of a block, or of the blocks in the framing of Kafka's
// Java client.
func snappySize(src []byte) (size int64, err error) {
	const header, maxRatio = 16, 64 // snappy compresses to a sixty-fourth at best
	compressed := int64(len(src))
	if len(src) < header || string(src[:8]) != "\x82SNAPPY\x00" {
		n, err := s2.DecodedLen(src)
		size = int64(n)
		if err != nil || size > maxRatio*compressed {
			return 0, xerial.ErrMalformed
		}
		return size, nil
	}
	for src = src[header:]; len(src) >= 4; {
		length := int(src[0])<<24 | int(src[1])<<16 | int(src[2])<<8 | int(src[3])
		if src = src[4:]; length > len(src) {
			return 0, xerial.ErrMalformed
		}
		n, err := s2.DecodedLen(src[:length])
		if err != nil {
			return 0, xerial.ErrMalformed
		}
		size += int64(n)
		src = src[length:]
	}
	if size > maxRatio*compressed {
		return 0, xerial.ErrMalformed
	}
	return size, nil
}
