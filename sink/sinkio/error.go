package sinkio

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// OpError returns the error of an operation on a path, as the user reads it: the operation,
// the path, the cause once, and the next step where there is an obvious one.
func OpError(op, path string, err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("%s %s: %w%s", op, path, err, advice(err))
}

func advice(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return " (make room; the records wait in Kafka)"
	case errors.Is(err, fs.ErrPermission):
		return " (let the agent's user write there)"
	case errors.Is(err, syscall.EROFS):
		return " (mount it for writing)"
	case errors.Is(err, syscall.EIO):
		return " (look at the disk; the records wait in Kafka)"
	}
	return ""
}
