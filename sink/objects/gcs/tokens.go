package gcs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"cloud.google.com/go/compute/metadata"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"kcagent/limits"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/transport"
)

// tokens are the credentials of requests. Its methods are safe for concurrent use.
type tokens interface {
	get(context.Context) (string, error)
	// reject says that the store has rejected a token, so that another one is obtained.
	reject()
	// describe says where a user changes the credentials.
	describe() string
}

// scope permits writing, listing and deleting objects.
const scope = "https://www.googleapis.com/auth/devstorage.read_write"

// tokenClient requests tokens. The library does not pass contexts on.
var tokenClient = &http.Client{Timeout: 15 * time.Second}

func withTokenClient() context.Context {
	return context.WithValue(context.Background(), oauth2.HTTPClient, tokenClient)
}

// fileTokens requests tokens with the key of a service account.
type fileTokens struct {
	file string

	mu     sync.Mutex
	key    []byte // content of the file for which source was created
	source oauth2.TokenSource
}

func (t *fileTokens) describe() string { return "credentials.service_account_file" }

func (t *fileTokens) reject() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.source = nil
}

func (t *fileTokens) get(context.Context) (string, error) {
	text, err := transport.ReadSecret(t.describe(), t.file)
	if err != nil {
		return "", err
	}
	t.mu.Lock()
	if key := []byte(text); t.source == nil || !bytes.Equal(key, t.key) {
		config, err := google.JWTConfigFromJSON(key, scope)
		if err != nil {
			t.mu.Unlock()
			return "", &store.CredentialsError{Err: fmt.Errorf("read %s: %s is not the JSON key of a service account", t.describe(), t.file)}
		}
		t.key, t.source = key, config.TokenSource(withTokenClient())
	}
	source := t.source
	t.mu.Unlock()
	return access(source)
}

// access returns the token of a source, which requests one if it has none that is valid.
func access(source oauth2.TokenSource) (string, error) {
	token, err := source.Token()
	if err != nil {
		return "", explainToken(err)
	}
	return token.AccessToken, nil
}

// explainToken returns an error without the response of the token service, which may be long.
func explainToken(err error) error {
	if r, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		cause := fmt.Sprintf("status %d", r.Response.StatusCode)
		var body struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		if json.Unmarshal(r.Body, &body) == nil && body.Error != "" {
			cause = body.Error + ": " + transport.Text(body.Description)
		}
		err = fmt.Errorf("get a token of Google: %s", cause)
		if r.Response.StatusCode/100 == 5 || r.Response.StatusCode == http.StatusTooManyRequests {
			return err
		}
		return &store.CredentialsError{Err: err}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return limits.WithoutPorts(fmt.Errorf("get a token of Google: %w", op))
	}
	return &store.CredentialsError{Err: errors.New("get a token of Google: " + transport.Text(limits.StableText(err.Error())))}
}

// applicationDefault are the application default credentials of the process. All consumers share
// them, so that a thousand of them do not request a thousand tokens of the same account.
var applicationDefault = &defaultTokens{}

// defaultTokens searches the application default credentials again after a rejection.
type defaultTokens struct {
	mu     sync.Mutex
	source oauth2.TokenSource
}

func (t *defaultTokens) describe() string { return "the application default credentials" }

func (t *defaultTokens) reject() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.source = nil
}

func (t *defaultTokens) get(context.Context) (string, error) {
	t.mu.Lock()
	if t.source == nil {
		source, err := findDefault()
		if err != nil {
			t.mu.Unlock()
			return "", &store.CredentialsError{Err: err}
		}
		t.source = source
	}
	source := t.source
	t.mu.Unlock()
	return access(source)
}

// findDefault looks for a file, as all libraries of Google do. Without one, tokens come from the
// metadata server, also those of workload identity. The library would cache that the server does not
// respond, as happens in the first seconds of a pod.
func findDefault() (oauth2.TokenSource, error) {
	if !hasDefaultFile() {
		return oauth2.ReuseTokenSource(nil, metadataSource{}), nil
	}
	found, err := google.FindDefaultCredentials(withTokenClient(), scope)
	if err != nil {
		return nil, errors.New(transport.Text(err.Error()))
	}
	return found.TokenSource, nil
}

func hasDefaultFile() bool {
	if os.Getenv("GOOGLE_APPLICATION_CREDENTIALS") != "" {
		return true
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(home, ".config", "gcloud", "application_default_credentials.json"))
	return err == nil
}

// metadataSource requests tokens from the metadata server.
type metadataSource struct{}

// Token implements [oauth2.TokenSource].
func (metadataSource) Token() (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	text, err := metadata.GetWithContext(ctx, "instance/service-accounts/default/token?scopes="+scope)
	if err != nil {
		return nil, fmt.Errorf("no credentials in the environment, and no response of the metadata server; set credentials.service_account_file (%w)", err)
	}
	var token oauth2.Token
	if err := json.Unmarshal([]byte(text), &token); err != nil || token.AccessToken == "" {
		return nil, errors.New("invalid response of the metadata server")
	}
	token.Expiry = time.Now().Add(time.Duration(token.ExpiresIn) * time.Second)
	return &token, nil
}
