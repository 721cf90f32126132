package azure

import (
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"kcagent/sink/objects/store"
	"kcagent/sink/objects/transport"
)

// An operation is a kind of request, the permission that it requires, and the letters of the permission
// in a shared access signature.
type operation struct{ verb, permission, letters string }

const blobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/"

var (
	upload = operation{"upload", blobs + "write", "c"}
	lookUp = operation{"look up", blobs + "read", "r"}
	read   = operation{"read", blobs + "read", "r"}
	remove = operation{"delete", blobs + "delete", "d"}
	list   = operation{"list", blobs + "read", "l"}
)

// A failure is a response that rejects a request.
type failure struct {
	status        int
	code, message string
}

func (f *failure) Error() string { return fmt.Sprintf("status %d: %s", f.status, f.message) }

// readFailure reads and closes a response.
func readFailure(resp *http.Response) error {
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var described struct {
		Code    string `xml:"Code"`
		Message string `xml:"Message"`
		Detail  string `xml:"AuthenticationErrorDetail"`
	}
	_ = xml.Unmarshal(body, &described) // a response to HEAD has only the header
	f := &failure{status: resp.StatusCode, code: cmp.Or(resp.Header.Get("X-Ms-Error-Code"), described.Code)}
	// The identifier of the request and its time follow the first line.
	f.message, _, _ = strings.Cut(described.Message, "\n")
	if described.Detail != "" {
		f.message = described.Detail
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
	return store.Denied(permission, fmt.Errorf("%s az://%s/%s%s: %w", op.verb, s.container, s.prefix, key, err))
}

// explainFailure returns the cause of a response that rejects a request. permission is not nil if
// the request lacks a permission, or valid credentials, see [store.PermissionError].
func (s *Store) explainFailure(op operation, f *failure) (permission *string, err error) {
	switch f.code {
	case "BlobNotFound":
		return nil, store.ErrNotExist
	case "BlobAlreadyExists", "UnauthorizedBlobOverwrite":
		return nil, store.ErrExists
	case "ContainerNotFound", "ContainerBeingDeleted":
		return nil, fmt.Errorf("container %s does not exist; create it, or correct url", s.container)
	case "InvalidBlockList", "InvalidBlobOrBlock":
		return nil, errors.New("another upload of the same object has removed the blocks")
	case "ServerBusy", "OperationTimedOut", "IngressLimitExceeded":
		return nil, fmt.Errorf("the store limits the rate of requests (%s)", f.code)
	case "AuthorizationPermissionMismatch", "AuthorizationServiceMismatch", "AuthorizationResourceTypeMismatch", "InsufficientAccountPermissions":
		return s.explainDenied(op)
	case "AuthorizationFailure", "AuthorizationProtocolMismatch", "AuthorizationSourceIPMismatch":
		return &op.permission, fmt.Errorf("access denied (%s); allow this host in the network rules of the account, and check %s", f.code, s.access.describe())
	case "KeyBasedAuthenticationNotPermitted":
		return new(string), errors.New("the account does not permit its key; remove credentials.account_key_file, so that the Azure credentials are used")
	case "AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation":
		s.access.reject()
		return new(string), explainAuthentication(f, s.access.describe())
	}
	switch {
	case f.status == http.StatusNotFound && f.code == "" && op != upload && op != list:
		return nil, store.ErrNotExist
	case f.status == http.StatusPreconditionFailed && op == upload:
		return nil, store.ErrExists
	case f.status == http.StatusUnauthorized:
		s.access.reject()
		return new(string), explainAuthentication(f, s.access.describe())
	case f.status == http.StatusForbidden && f.code == "":
		return s.explainDenied(op)
	case f.status == http.StatusTooManyRequests, f.status == http.StatusServiceUnavailable:
		return nil, fmt.Errorf("the store limits the rate of requests (status %d)", f.status)
	}
	return nil, fmt.Errorf("the store responds with status %d: %s", f.status, strings.TrimPrefix(f.code+": "+transport.Text(f.message), ": "))
}

// explainDenied names the permission that is missing. Tags require one of their own.
func (s *Store) explainDenied(op operation) (*string, error) {
	permission, letters := op.permission, op.letters
	if op == upload && s.tags != "" {
		letters += "t"
	}
	if _, ok := s.access.(*signature); ok {
		return &permission, fmt.Errorf("access denied; renew %s with the permission %s", s.access.describe(), letters)
	}
	grant := permission
	if op == upload && s.tags != "" {
		grant += " and " + blobs + "tags/write"
	}
	return &permission, fmt.Errorf("access denied; grant %s to the owner of %s", grant, s.access.describe())
}

// explainAuthentication returns the cause of rejected credentials. The message of the store has
// the time, which differs each time, or parts of a signature.
func explainAuthentication(f *failure, where string) error {
	switch detail := strings.ToLower(f.message); {
	case strings.Contains(detail, "specified time frame"), strings.Contains(detail, "lifetime validation failed"), strings.Contains(detail, "expired"):
		return fmt.Errorf("the credentials have expired; renew %s", where)
	case strings.Contains(detail, "request date header"), strings.Contains(detail, "signed start"):
		return errors.New("the clocks of this host and of the store differ; correct them")
	}
	return fmt.Errorf("the credentials are invalid or have expired; check %s", where)
}
