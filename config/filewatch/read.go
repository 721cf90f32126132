package filewatch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// maxFileSize bounds what is read of a file, in bytes: far more than any file that a
// person maintains, and little enough to hold in memory.
const maxFileSize = 8 << 20

// ReadFile returns the content of a regular file of at most 8 MiB, and when it was last
// modified, by the clock of its file system.
func ReadFile(path string) (data []byte, modified time.Time, err error) {
	// A pipe or a device is rejected before it is opened: either may block for ever.
	info, err := os.Stat(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	if !info.Mode().IsRegular() {
		return nil, time.Time{}, errors.New("read file: not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	if data, err = io.ReadAll(io.LimitReader(f, maxFileSize+1)); err != nil {
		return nil, time.Time{}, err
	}
	if len(data) > maxFileSize {
		return nil, time.Time{}, fmt.Errorf("read file: larger than %d MiB", maxFileSize>>20)
	}
	// The time is read after the content, so that a write during the read makes the file
	// look young.
	if info, err = f.Stat(); err != nil {
		return nil, time.Time{}, err
	}
	return data, info.ModTime(), nil
}

// Sum returns the SHA-256 of the content of a file in hex, by which the status and the log
// identify it.
func Sum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// SumFile returns [Sum] of the file at path, or "" with the error of [ReadFile].
func SumFile(path string) (string, error) {
	data, _, err := ReadFile(path)
	if err != nil {
		return "", err
	}
	return Sum(data), nil
}
