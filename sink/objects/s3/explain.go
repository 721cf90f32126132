package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7"

	"kcagent/limits"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/transport"
)

// An operation is a kind of request, and the permission that it requires.
type operation struct{ verb, permission string }

var (
	put         = operation{"upload", "s3:PutObject"}
	lookUp      = operation{"look up", "s3:GetObject"}
	read        = operation{"read", "s3:GetObject"}
	remove      = operation{"delete", "s3:DeleteObject"}
	list        = operation{"list", "s3:ListBucket"}
	listUploads = operation{"list unfinished uploads of", "s3:ListBucketMultipartUploads"}
	abort       = operation{"abort unfinished upload of", "s3:AbortMultipartUpload"}
)

// explain returns the error of an operation as the user reads it. Its text is the same for each
// attempt that fails for the same reason.
func (s *Store) explain(ctx context.Context, op operation, key string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	what := op.verb + " s3://" + s.bucket + "/" + s.key(key)
	permission := (*string)(nil)
	switch r := minio.ToErrorResponse(err); {
	case r.Code != "":
		permission, err = s.explainResponse(op, r)
	case errors.As(err, new(*store.CredentialsError)), errors.As(err, new(*transport.ContentError)), errors.Is(err, errNoStore), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	default:
		err = s.explainConnection(err)
	}
	return store.Denied(permission, fmt.Errorf("%s: %w", what, err))
}

// explainResponse returns the cause of a response that rejects a request. permission is not nil if
// the request lacks a permission, or valid credentials, see [store.PermissionError].
func (s *Store) explainResponse(op operation, r minio.ErrorResponse) (permission *string, err error) {
	switch r.Code {
	case "NoSuchKey":
		return nil, store.ErrNotExist
	case "PreconditionFailed":
		return nil, store.ErrExists
	case "NoSuchBucket":
		return nil, fmt.Errorf("bucket %s does not exist; create it, or correct url", s.bucket)
	case "ConditionalRequestConflict", "OperationAborted", "Conflict":
		return nil, errors.New("another upload of the same object is in progress")
	case "SlowDown", "SlowDownWrite", "SlowDownRead", "ServiceUnavailable", "Throttling", "ThrottlingException", "TooManyRequests":
		return nil, fmt.Errorf("the store limits the rate of requests (%s)", r.Code)
	case "RequestTimeTooSkewed":
		return nil, errors.New(s.explainSkew())
	case "InvalidAccessKeyId", "XAdminUserNotFound": // the latter of Versity
		return new(string), fmt.Errorf("the store does not know the access key; check %s", s.source.describe())
	case "SignatureDoesNotMatch":
		return new(string), fmt.Errorf("the secret access key does not match the access key; check %s", s.source.describe())
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired":
		return new(string), fmt.Errorf("the credentials have expired; renew %s", s.source.describe())
	case "InvalidToken", "InvalidSecurity", "UnrecognizedClientException":
		return new(string), fmt.Errorf("the credentials are invalid; check %s", s.source.describe())
	case "AccessDenied", "AccountProblem", "AllAccessDisabled":
		return s.explainDenied(op, r)
	case "NotImplemented":
		return nil, errors.New("the store does not implement a part of the request; remove storage_class, tags and server_side_encryption")
	case "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "InvalidRegion", "IllegalLocationConstraintException":
		return nil, errors.New(s.explainRegion(r))
	}
	switch {
	case r.Code == "InternalError" && strings.HasPrefix(r.Message, "Last-Modified time format is invalid"): // the client says so
		return nil, errNoStore
	case r.StatusCode/100 == 3:
		return nil, errors.New(s.explainRegion(r))
	case strings.Contains(r.Message, "HTTP request to an HTTPS server"):
		return nil, errors.New("the endpoint requires TLS; use https:// in endpoint")
	case r.StatusCode == http.StatusServiceUnavailable && strings.Contains(r.Code, " "): // the response to HEAD has no body
		return nil, fmt.Errorf("the store limits the rate of requests, or is not available (%s)", r.Code)
	case strings.Contains(r.Code, " "): // the status, because the body is not XML
		return nil, fmt.Errorf("the store responds with %s", transport.Text(r.Code))
	}
	return nil, fmt.Errorf("the store responds with %s: %s", transport.Text(r.Code), transport.Text(r.Message))
}

// errNoStore says that the response to a request that has succeeded lacks what each store returns.
var errNoStore = errors.New("the response is not that of an S3 store; correct endpoint, which may be that of a console or of another server")

// deniedAction is part of Amazon's message about a permission.
var deniedAction = regexp.MustCompile(`not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)`)

// explainDenied names the permission that is missing: that of the operation, unless Amazon names
// another, such as one of the key that encrypts the bucket.
func (s *Store) explainDenied(op operation, r minio.ErrorResponse) (*string, error) {
	permission := op.permission
	if found := deniedAction.FindStringSubmatch(r.Message); found != nil {
		permission = found[1]
	} else if permission == "s3:GetObject" { // S3 also responds so if the object does not exist
		return &permission, fmt.Errorf("access denied; grant s3:GetObject and s3:ListBucket to the owner of %s", s.source.describe())
	}
	return &permission, fmt.Errorf("access denied; grant %s to the owner of %s", permission, s.source.describe())
}

// explainSkew says by how much the clock is wrong, in minutes: the store accepts 15.
func (s *Store) explainSkew() string {
	skew := time.Duration(s.transport.skew.Load()).Round(time.Minute)
	switch {
	case skew > 0:
		return fmt.Sprintf("the clock of this host is %d minutes behind that of the store; correct the clock", int(skew.Minutes()))
	case skew < 0:
		return fmt.Sprintf("the clock of this host is %d minutes ahead of that of the store; correct the clock", int(-skew.Minutes()))
	}
	return "the clocks of this host and of the store differ; correct them"
}

// explainRegion names the region of the bucket.
func (s *Store) explainRegion(r minio.ErrorResponse) string {
	if r.Region != "" && r.Region != s.region {
		return fmt.Sprintf("the bucket is in region %s, not in %s; set region: %s", r.Region, s.region, r.Region)
	}
	return fmt.Sprintf("the bucket is not in region %s, or not at %s; set region and endpoint (%s)", s.region, s.host, r.Code)
}

// explainConnection returns the cause of a request without a response. It names the host, not the
// addresses: a store has many.
func (s *Store) explainConnection(err error) error {
	at := s.host
	if sent, ok := errors.AsType[*url.Error](err); ok {
		err = sent.Err
		if u, parseErr := url.Parse(sent.URL); parseErr == nil {
			at = u.Host
		}
	}
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Errorf("the certificate of %s is for [%s]; set path_style, or correct endpoint", at, strings.Join(name.Certificate.DNSNames, " "))
	}
	if name, ok := errors.AsType[*net.DNSError](err); ok && name.IsNotFound {
		return fmt.Errorf("host %s not found; %s", name.Name, s.explainHost(name.Name))
	}
	caFile := ""
	if s.spec.TLS != nil {
		caFile = s.spec.TLS.CAFile
	}
	if cause := transport.Explain(at, caFile, err); cause != nil {
		return cause
	}
	if closedByStore(err) {
		return fmt.Errorf("%s closed the connection", at)
	}
	return limits.WithoutPorts(err)
}

// explainHost says what to correct if a host does not exist.
func (s *Store) explainHost(name string) string {
	switch {
	case s.spec.Endpoint == "":
		return "check region, and the name server of this host"
	case strings.HasPrefix(name, s.bucket+"."):
		return "set path_style: true if the store has the bucket in the path, or correct endpoint"
	}
	return "correct endpoint"
}

// closedByStore reports whether the store closed the connection. How the system says so depends on
// what the connection was doing.
func closedByStore(err error) bool {
	for _, is := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, is) {
			return true
		}
	}
	return strings.Contains(err.Error(), "Connection closed by foreign host") // the client replaces io.EOF
}

// explainChain returns the cause of missing credentials.
func explainChain(err error) error {
	var api interface {
		ErrorCode() string
		ErrorMessage() string
	}
	switch {
	case errors.As(err, &api) && api.ErrorCode() != "":
		return fmt.Errorf("get AWS credentials: %s: %s", api.ErrorCode(), transport.Text(api.ErrorMessage()))
	case strings.Contains(err.Error(), "no EC2 IMDS role found"):
		return errors.New("no AWS credentials found in environment, profile, web identity, container or instance; set credentials.access_key_file and credentials.secret_key_file")
	}
	return fmt.Errorf("get AWS credentials: %w", limits.WithoutPorts(err))
}

// status returns the HTTP status of a response that rejects a request; 0 if there is none.
func status(err error) int { return minio.ToErrorResponse(err).StatusCode }

// transient reports whether a request may succeed soon.
func transient(err error) bool {
	r := minio.ToErrorResponse(err)
	switch r.Code {
	case "": // no response
		certificate := errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(x509.UnknownAuthorityError))
		return !certificate && !errors.As(err, new(transport.StallError)) && !errors.As(err, new(*store.CredentialsError)) && !errors.As(err, new(*transport.ContentError)) && !errors.Is(err, errNoStore) && !errors.Is(err, errTooLarge)
	case "SlowDown", "InternalError", "RequestTimeout", "ServiceUnavailable": // also in a response that begins with 200
		return true
	}
	return r.StatusCode/100 == 5 && r.StatusCode != http.StatusNotImplemented || r.StatusCode == http.StatusTooManyRequests
}

// credentialsRejected reports whether other credentials may be accepted.
func credentialsRejected(err error) bool {
	switch minio.ToErrorResponse(err).Code {
	case "InvalidAccessKeyId", "XAdminUserNotFound", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "InvalidSecurity", "UnrecognizedClientException":
		return true
	}
	return false
}

// notImplemented reports whether the store rejects a header, or a kind of request, that it does
// not know.
func notImplemented(err error) bool {
	r := minio.ToErrorResponse(err)
	return r.Code == "NotImplemented" || r.StatusCode == http.StatusNotImplemented ||
		r.StatusCode == http.StatusBadRequest && strings.Contains(strings.ToLower(r.Message), "none-match")
}
