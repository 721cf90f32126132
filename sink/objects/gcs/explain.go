package gcs

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"

	"kcagent/sink/objects/store"
	"kcagent/sink/objects/transport"
)

// An operation is a kind of request, and the permission that it requires.
type operation struct{ verb, permission string }

var (
	upload = operation{"upload", "storage.objects.create"}
	lookUp = operation{"look up", "storage.objects.get"}
	read   = operation{"read", "storage.objects.get"}
	remove = operation{"delete", "storage.objects.delete"}
	list   = operation{"list", "storage.objects.list"}
)

// A failure is a response that rejects a request.
type failure struct {
	status          int
	reason, message string
}

func (f *failure) Error() string { return fmt.Sprintf("status %d: %s", f.status, f.message) }

// readFailure reads and closes a response.
func readFailure(resp *http.Response) error {
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	f := &failure{status: resp.StatusCode}
	var described struct {
		Error struct {
			Message string `json:"message"`
			Errors  []struct {
				Reason string `json:"reason"`
			} `json:"errors"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &described) == nil {
		f.message = described.Error.Message
		if len(described.Error.Errors) > 0 {
			f.reason = described.Error.Errors[0].Reason
		}
	} else if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		f.message = string(body)
	}
	f.message = cmp.Or(f.message, http.StatusText(f.status))
	return f
}

// explain returns the error of an operation as the user reads it. Its text is the same for each
// attempt that fails for the same reason.
func (s *Store) explain(op operation, key string, err error) error {
	if err == nil {
		return nil
	}
	permission := (*string)(nil)
	if f, ok := errors.AsType[*failure](err); ok {
		permission, err = s.explainFailure(op, f)
	}
	return store.Denied(permission, fmt.Errorf("%s gs://%s/%s%s: %w", op.verb, s.bucket, s.prefix, key, err))
}

// deniedPermission is part of the message about a missing permission.
var deniedPermission = regexp.MustCompile(`\b(?:storage|cloudkms)\.[a-zA-Z]+\.[a-zA-Z]+\b`)

// explainFailure returns the cause of a response that rejects a request. permission is not nil if
// the request lacks a permission, or valid credentials, see [store.PermissionError].
func (s *Store) explainFailure(op operation, f *failure) (permission *string, err error) {
	switch {
	case f.status == http.StatusNotFound && (op == upload || op == list || strings.Contains(f.message, "bucket does not exist")):
		return nil, fmt.Errorf("bucket %s does not exist; create it, or correct url", s.bucket)
	case f.status == http.StatusNotFound:
		return nil, store.ErrNotExist
	case f.status == http.StatusPreconditionFailed && op == upload:
		return nil, store.ErrExists
	case f.status == http.StatusUnauthorized && s.tokens == nil:
		return new(string), errors.New("the store requires credentials; set credentials.service_account_file")
	case f.status == http.StatusUnauthorized:
		s.tokens.reject()
		return new(string), fmt.Errorf("the credentials are invalid or have expired; check %s", s.tokens.describe())
	case f.status == http.StatusTooManyRequests, f.status == http.StatusServiceUnavailable, strings.HasSuffix(strings.ToLower(f.reason), "ratelimitexceeded"):
		return nil, fmt.Errorf("the store limits the rate of requests (status %d)", f.status)
	case f.status == http.StatusForbidden && strings.Contains(f.reason+f.message, "illing"):
		return nil, fmt.Errorf("the store rejects the request for billing reasons: %s", transport.Text(f.message))
	case f.status == http.StatusForbidden && (f.reason == "" || f.reason == "forbidden" || f.reason == "insufficientPermissions"):
		return s.explainDenied(op, f)
	}
	return nil, fmt.Errorf("the store responds with status %d: %s", f.status, transport.Text(f.message))
}

// explainDenied names the permission that is missing: that of the operation, unless the store names
// another.
func (s *Store) explainDenied(op operation, f *failure) (*string, error) {
	permission := op.permission
	if found := deniedPermission.FindString(f.message); found != "" {
		permission = found
	}
	if s.tokens == nil {
		return &permission, errors.New("access denied to requests without credentials; set credentials.service_account_file")
	}
	return &permission, fmt.Errorf("access denied; grant %s to the owner of %s", permission, s.tokens.describe())
}
