// Package store is what an object store offers to the objects sink. Each kind of store is a
// package of its own, such as s3. Package storetest tests the contract that all have in common.
package store

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// A Store holds objects below one URL: keys are relative to its prefix. Its methods are safe for
// concurrent use.
//
// They do not retry for longer than a few seconds: the caller retries with backoff. An error reads
// "verb object: cause", and ends with the next step where the user has one, such as a permission
// that is missing. It names no secret.
type Store interface {
	// Put stores size bytes of body under key. The object is visible as a whole or not at all.
	// If an object has the key already, Put returns [ErrExists] on a store with conditional
	// writes, and replaces it on others. It streams: it needs memory for a few parts at most.
	Put(ctx context.Context, key string, body io.ReaderAt, size int64, a Attributes) error

	// Head returns an object without its content, or [ErrNotExist].
	Head(ctx context.Context, key string) (Object, error)

	// Open returns the content of an object, as it is stored, or [ErrNotExist].
	Open(ctx context.Context, key string) (io.ReadCloser, error)

	// Delete removes an object. It is not an error if there is none.
	Delete(ctx context.Context, key string) error

	// List returns the objects whose keys begin with prefix, in the order of their keys, as far
	// as the store has an order. Meta and type may be missing. After an error it ends.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]

	// AbortUploads aborts unfinished uploads of exactly this key, which a crash has left. A
	// store that keeps none does nothing.
	AbortUploads(ctx context.Context, key string) error

	// Close closes idle connections.
	Close()
}

// Attributes are stored with an object.
type Attributes struct {
	ContentType     string
	ContentEncoding string            // "" for none
	Meta            map[string]string // the names consist of a-z and digits, the values of printable ASCII
}

// An Object is an object as the store describes it.
type Object struct {
	Key      string
	Size     int64
	Modified time.Time
	Attributes
}

// Errors that the caller distinguishes.
var (
	ErrExists   = errors.New("the object exists already")
	ErrNotExist = errors.New("the object does not exist")
)

// A PermissionError says that the store has rejected a request for lack of a permission, or of
// valid credentials.
type PermissionError struct {
	Permission string // as the store names it, such as s3:PutObject; "" if the credentials are invalid
	Err        error  // the whole error, as the user reads it
}

func (e *PermissionError) Error() string { return e.Err.Error() }

// Unwrap returns the whole error.
func (e *PermissionError) Unwrap() error { return e.Err }

// A CredentialsError says that there are no credentials.
type CredentialsError struct{ Err error }

func (e *CredentialsError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *CredentialsError) Unwrap() error { return e.Err }

// Denied returns err as a [PermissionError] if a permission is missing, which permission names, or if
// there are no credentials. Otherwise it returns err itself.
func Denied(permission *string, err error) error {
	switch {
	case permission != nil:
		return &PermissionError{Permission: *permission, Err: err}
	case errors.As(err, new(*CredentialsError)):
		return &PermissionError{Err: err}
	}
	return err
}
