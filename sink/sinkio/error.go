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

// advice returns the next step after an error; "" if there is no obvious one.
func advice(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "; free disk space, the records stay in Kafka"
	case errors.Is(err, fs.ErrPermission):
		return "; grant the user of the agent write access"
	case errors.Is(err, syscall.EROFS):
		return "; mount it for writing"
	case errors.Is(err, syscall.EIO):
		return "; check the disk, the records stay in Kafka"
	}
	return ""
}
