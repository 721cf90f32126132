package compress

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"kcagent/sink"
)

// Detect returns the compression of a file. Records may begin like a frame, so a compressed
// file must consist of whole frames, except for a torn last one. If a torn frame is all that
// the file has, it is compressed only if wanted says so.
func Detect(f io.ReaderAt, size int64, wanted sink.Compression) (sink.Compression, error) {
	c, err := Sniff(f)
	if err != nil || c == sink.Uncompressed {
		return sink.Uncompressed, err
	}
	end, err := WholeEnd(f, size, c)
	if err != nil {
		return "", err
	}
	if end == size || end == 0 && c == wanted {
		return c, nil
	}
	// After whole frames there may be the beginning of a torn one, or the zeros that a power
	// loss leaves.
	if rest, err := readHead(f, end); err != nil || end > 0 && (bytes.HasPrefix(rest, magicBytes[c]) || bytes.HasPrefix(magicBytes[c], rest) || len(bytes.Trim(rest, "\x00")) == 0) {
		return c, err
	}
	return sink.Uncompressed, nil
}

// magicBytes is the beginning of a frame or member.
var magicBytes = map[sink.Compression][]byte{
	sink.Gzip: {0x1f, 0x8b},
	sink.Zstd: {0x28, 0xb5, 0x2f, 0xfd},
}

// Sniff guesses the compression of a file by its first bytes.
func Sniff(f io.ReaderAt) (sink.Compression, error) {
	first, err := readHead(f, 0)
	for c, m := range magicBytes {
		if bytes.HasPrefix(first, m) {
			return c, err
		}
	}
	return sink.Uncompressed, err
}

// readHead reads up to four bytes at an offset.
func readHead(f io.ReaderAt, at int64) ([]byte, error) {
	b := make([]byte, 4)
	n, err := f.ReadAt(b, at)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

// WholeEnd returns the end of the last whole line, frame or member of a file that is size
// bytes long.
func WholeEnd(f io.ReaderAt, size int64, c sink.Compression) (int64, error) {
	switch c {
	case sink.Gzip:
		return endOfMembers(f, size)
	case sink.Zstd:
		return endOfFrames(f, size)
	}
	return endOfLines(f, size)
}

// endOfMembers decompresses the file, because a gzip member does not contain its length.
func endOfMembers(f io.ReaderAt, size int64) (int64, error) {
	count := &countingReader{r: io.NewSectionReader(f, 0, size)}
	in := bufio.NewReaderSize(count, 256<<10)
	var z gzip.Reader
	for end := int64(0); ; {
		if err := z.Reset(in); err != nil {
			return end, count.err
		}
		z.Multistream(false)
		if _, err := io.Copy(io.Discard, &z); err != nil {
			return end, count.err
		}
		end = count.n - int64(in.Buffered())
	}
}

// A countingReader counts the bytes that it has read, and keeps the first error but io.EOF.
type countingReader struct {
	r   io.Reader
	n   int64
	err error
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// endOfFrames goes from frame to frame (RFC 8878, section 3.1.1) and decompresses each.
// After a power loss, a frame may have its length and not its content.
func endOfFrames(f io.ReaderAt, size int64) (int64, error) {
	count := &countingReader{r: io.NewSectionReader(f, 0, size)}
	in := bufio.NewReaderSize(count, 64<<10)
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return 0, err
	}
	defer d.Close()
	for end := int64(0); ; {
		if err := skipFrame(in); err != nil {
			return end, count.err
		}
		next := count.n - int64(in.Buffered())
		again := &countingReader{r: io.NewSectionReader(f, end, next-end)}
		err := d.Reset(again)
		if err == nil {
			_, err = io.Copy(io.Discard, d)
		}
		if err != nil {
			return end, again.err
		}
		end = next
	}
}

var errNoFrame = errors.New("no zstd frame")

// skipFrame skips one frame, or returns an error if there is no whole one.
func skipFrame(in *bufio.Reader) error {
	var h zstd.Header
	head, _ := in.Peek(zstd.HeaderMaxSize)
	if err := h.Decode(head); err != nil || h.Skippable {
		return errNoFrame
	}
	if _, err := in.Discard(h.HeaderSize); err != nil {
		return err
	}
	for {
		b, err := in.Peek(3)
		if err != nil {
			return err
		}
		block := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
		n := block >> 3
		if block>>1&3 == 1 { // one byte, repeated
			n = 1
		}
		if _, err := in.Discard(3 + n); err != nil {
			return err
		}
		if block&1 == 0 {
			continue
		}
		if h.HasCheckSum {
			_, err = in.Discard(4)
		}
		return err
	}
}

const tailBlock = 64 << 10

// LongestTail is more than the longest record. Kafka allows records of 2 GiB, and each byte
// may become six in JSON. A file without a newline in its last LongestTail bytes was not
// written by a sink, and is not changed. Tests reduce it.
var LongestTail int64 = 13 << 30

// endOfLines searches for a newline from the end.
func endOfLines(f io.ReaderAt, size int64) (int64, error) {
	block := make([]byte, min(tailBlock, size))
	for end := size; end > 0; {
		if size-end >= LongestTail {
			return 0, fmt.Errorf("no newline in the last %d MiB: not written by this sink; move it away", LongestTail>>20)
		}
		part := block[:min(end, tailBlock)]
		start := end - int64(len(part))
		if _, err := f.ReadAt(part, start); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return start + int64(i) + 1, nil
		}
		end = start
	}
	return 0, nil
}
