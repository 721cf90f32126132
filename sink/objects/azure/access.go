package azure

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"kcagent/limits"
	"kcagent/sink"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/transport"
)

// access adds the credentials to requests. Its methods are safe for concurrent use.
type access interface {
	authorize(*http.Request) error
	// reject says that the store has rejected the credentials, so that they are obtained again.
	reject()
	// describe says where a user changes the credentials.
	describe() string
}

func newAccess(spec *sink.ObjectsSpec, at *url.URL) (access, error) {
	c := spec.Credentials
	switch {
	case c.AccountKeyFile != "":
		account := spec.Account
		if path := strings.Trim(at.Path, "/"); account == "" && path != "" {
			account, _, _ = strings.Cut(path, "/")
		} else if account == "" {
			account, _, _ = strings.Cut(at.Host, ".")
		}
		return &sharedKey{account, c.AccountKeyFile}, nil
	case c.SASTokenFile != "":
		return &signature{c.SASTokenFile}, nil
	case at.Scheme == "http":
		return nil, errors.New("an endpoint without TLS requires credentials.account_key_file or credentials.sas_token_file")
	}
	return defaultChain, nil
}

// sharedKey signs requests with the key of the account.
type sharedKey struct{ account, file string }

func (k *sharedKey) reject()          {}
func (k *sharedKey) describe() string { return "credentials.account_key_file" }

func (k *sharedKey) authorize(r *http.Request) error {
	text, err := transport.ReadSecret(k.describe(), k.file)
	if err != nil {
		return err
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return &store.CredentialsError{Err: fmt.Errorf("read %s: %s is not the key of an account: it is not Base64", k.describe(), k.file)}
	}
	sum := hmac.New(sha256.New, key)
	sum.Write([]byte(k.canonical(r)))
	r.Header.Set("Authorization", "SharedKey "+k.account+":"+base64.StdEncoding.EncodeToString(sum.Sum(nil)))
	return nil
}

// canonical returns what is signed, see "Authorize with Shared Key" in the documentation of the
// API.
func (k *sharedKey) canonical(r *http.Request) string {
	length := ""
	if r.ContentLength > 0 {
		length = strconv.FormatInt(r.ContentLength, 10)
	}
	lines := []string{r.Method, r.Header.Get("Content-Encoding"), r.Header.Get("Content-Language"), length}
	for _, name := range []string{"Content-MD5", "Content-Type", "Date", "If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range"} {
		lines = append(lines, r.Header.Get(name))
	}
	var headers []string
	for name, values := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-ms-") {
			headers = append(headers, name+":"+strings.Join(values, ","))
		}
	}
	slices.SortFunc(headers, func(a, b string) int { // by the name alone
		nameA, _, _ := strings.Cut(a, ":")
		nameB, _, _ := strings.Cut(b, ":")
		return cmp.Compare(nameA, nameB)
	})
	lines = append(lines, headers...)
	resource := "/" + k.account + r.URL.EscapedPath()
	query := r.URL.Query()
	var parameters []string
	for name, values := range query {
		slices.Sort(values)
		parameters = append(parameters, strings.ToLower(name)+":"+strings.Join(values, ","))
	}
	slices.Sort(parameters)
	return strings.Join(append(append(lines, resource), parameters...), "\n")
}

// signature adds a shared access signature, which is a part of the URL.
type signature struct{ file string }

func (s *signature) reject()          {}
func (s *signature) describe() string { return "credentials.sas_token_file" }

func (s *signature) authorize(r *http.Request) error {
	text, err := transport.ReadSecret(s.describe(), s.file)
	if err != nil {
		return err
	}
	query, err := url.ParseQuery(strings.TrimPrefix(text, "?"))
	if err != nil || !query.Has("sig") {
		return &store.CredentialsError{Err: fmt.Errorf("read %s: %s is not a shared access signature; write it as in sv=…&sig=…", s.describe(), s.file)}
	}
	if r.URL.RawQuery != "" {
		r.URL.RawQuery += "&"
	}
	r.URL.RawQuery += query.Encode()
	return nil
}

// defaultChain are the credentials of the process. All consumers share them, so that a thousand of
// them do not request a thousand tokens of the same identity.
var defaultChain = &chain{}

// A chain finds credentials where the tools of Azure do: environment, workload identity, managed
// identity, and the Azure CLI.
type chain struct {
	transport policy.Transporter // nil is that of the library

	mu         sync.Mutex
	credential azcore.TokenCredential // nil before the first request and after a rejection
	rejected   bool                   // the token that the library may have kept
}

// scope is that of all storage accounts.
const scope = "https://storage.azure.com/.default"

// tokenTimeout bounds a request for a token.
const tokenTimeout = 30 * time.Second

func (c *chain) describe() string { return "the Azure credentials" }

func (c *chain) reject() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.credential, c.rejected = nil, true
}

func (c *chain) authorize(r *http.Request) error {
	credential, rejected, err := c.current()
	if err != nil {
		return &store.CredentialsError{Err: errors.New("get Azure credentials: " + transport.Text(err.Error()))}
	}
	ctx, cancel := context.WithTimeout(r.Context(), tokenTimeout)
	defer cancel()
	options := policy.TokenRequestOptions{Scopes: []string{scope}}
	if rejected {
		options.Claims = "{}" // no claims, but with any the library does not return a token that it has
	}
	token, err := credential.GetToken(ctx, options)
	if err != nil {
		if r.Context().Err() != nil {
			return r.Context().Err()
		}
		return &store.CredentialsError{Err: explainChain(err)}
	}
	if rejected {
		c.renewed()
	}
	r.Header.Set("Authorization", "Bearer "+token.Token)
	return nil
}

func (c *chain) renewed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rejected = false
}

func (c *chain) current() (credential azcore.TokenCredential, rejected bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.credential != nil {
		return c.credential, c.rejected, nil
	}
	found, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
		ClientOptions: azcore.ClientOptions{Transport: c.transport, Retry: policy.RetryOptions{MaxRetries: 1}},
		// The metadata of a private cloud is not known to the public service that checks it.
		DisableInstanceDiscovery: c.transport != nil,
	})
	if err != nil {
		return nil, false, err
	}
	c.credential = found
	return found, c.rejected, nil
}

// directoryError is the cause in an error of Microsoft Entra ID. What follows differs each time.
var directoryError = regexp.MustCompile(`AADSTS\d+: [^.]*\.`)

// explainChain returns the cause of missing credentials on one line.
func explainChain(err error) error {
	if cause := directoryError.FindString(err.Error()); cause != "" {
		return errors.New("get Azure credentials: " + transport.Text(cause))
	}
	if failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); ok && failed.RawResponse != nil {
		return fmt.Errorf("get Azure credentials: the token service responds with status %d", failed.RawResponse.StatusCode)
	}
	if strings.Contains(err.Error(), "failed to acquire a token") {
		return errors.New("no Azure credentials found in environment, workload identity, managed identity and Azure CLI; set credentials.account_key_file or credentials.sas_token_file")
	}
	return errors.New("get Azure credentials: " + transport.Text(limits.StableText(err.Error())))
}
