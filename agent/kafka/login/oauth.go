package login

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/aws/aws-msk-iam-sasl-signer-go/signer"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"kcagent/config"
	"kcagent/limits"
	"kcagent/retry"
)

const (
	// tokenTimeout bounds how long a login waits for a token. sarama's requests to the
	// broker wait for the login.
	tokenTimeout = 10 * time.Second
	// tokenPause is the shortest time between two requests to a token server that fails.
	// Without it, each connection of each consumer would send one.
	tokenPause = 4 * time.Second
	// tokenMargin is how long before its expiry a token is replaced, unless its lifetime is
	// short.
	tokenMargin = time.Minute
)

// A tokenError reports that no token could be obtained for a login.
type tokenError struct{ error }

func (e *tokenError) Unwrap() error { return e.error }

// A tokenSource provides the tokens for sarama's logins. Its methods are safe for concurrent
// use; logins that need a token at the same time share a request.
type tokenSource struct {
	extensions map[string]string
	request    func(context.Context) (*oauth2.Token, error) // nil if the token comes from a file

	mu        sync.Mutex
	current   *oauth2.Token
	obtained  time.Time // when current was obtained
	replaceAt time.Time // when current is to be replaced; zero if it does not expire
	err       error     // of the last request; nil if it succeeded
	retryAt   time.Time // no request before
}

// Token implements sarama.AccessTokenProvider.
func (t *tokenSource) Token() (*sarama.AccessToken, error) {
	t.mu.Lock()
	defer t.mu.Unlock() // other logins wait for the request in flight, and send none of their own
	if t.due() {
		ctx, cancel := context.WithTimeout(context.Background(), tokenTimeout)
		defer cancel()
		token, err := t.request(ctx)
		if err != nil {
			t.err, t.retryAt = &tokenError{err}, time.Now().Add(retry.Jitter(2*tokenPause))
		} else {
			t.set(token)
		}
	}
	if !t.usable() {
		return nil, t.err
	}
	return &sarama.AccessToken{Token: t.current.AccessToken, Extensions: t.extensions}, nil
}

// due reports whether another token is to be requested now.
func (t *tokenSource) due() bool {
	now := time.Now()
	return now.After(t.retryAt) && (t.current == nil || !t.replaceAt.IsZero() && now.After(t.replaceAt))
}

// usable reports whether the current token can be used. While the token server fails, a token
// is used until it expires.
func (t *tokenSource) usable() bool {
	return t.current != nil && (t.err == nil || t.current.Expiry.IsZero() || time.Now().Before(t.current.Expiry))
}

// set makes a token the current one. Servers need not report an expiry (RFC 6749, 5.1), but
// a JWT contains it. A token that has expired by the local clock may be valid by the
// broker's: it is used, and replaced soon. t.mu is held.
func (t *tokenSource) set(token *oauth2.Token) {
	t.current, t.obtained, t.err = token, time.Now(), nil
	if token.Expiry.IsZero() {
		token.Expiry = ExpiryOf(token.AccessToken)
	}
	switch lifetime := token.Expiry.Sub(t.obtained); {
	case token.Expiry.IsZero():
		t.replaceAt = time.Time{}
	case lifetime <= 0:
		t.replaceAt = t.obtained.Add(tokenPause)
	default:
		t.replaceAt = token.Expiry.Add(-min(tokenMargin, lifetime/5))
	}
}

// discard drops a token that a broker has rejected, so that the next login requests another
// one. A token that is newer than tokenPause stays: the next one would be rejected too, and
// each login would send a request to the token server.
func (t *tokenSource) discard() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.request != nil && time.Since(t.obtained) > tokenPause {
		t.current = nil
	}
}

// ExpiryOf returns when a token expires, if it is a JWT (RFC 7519) that says so; else zero.
// The signature need not be verified for that.
func ExpiryOf(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Exp float64 `json:"exp"` // fractions of a second are allowed
	}
	if err != nil || json.Unmarshal(payload, &claims) != nil || claims.Exp <= 0 {
		return time.Time{}
	}
	return time.Unix(int64(claims.Exp), 0)
}

// newTokenSource returns the source of tokens for a mechanism; nil if it needs none. Files
// are read now.
func newTokenSource(s config.SASL) (*tokenSource, error) {
	switch o := s.OAuth; {
	case s.Mechanism == config.MSKIAM:
		return &tokenSource{request: func(ctx context.Context) (*oauth2.Token, error) { return signedToken(ctx, s.AWS.Region) }}, nil
	case s.Mechanism != config.OAuthBearer:
		return nil, nil
	case o.TokenFile != "":
		text, err := ReadSecret("sasl.oauth.token_file", o.TokenFile)
		if err != nil {
			return nil, err
		}
		return &tokenSource{extensions: o.Extensions, current: &oauth2.Token{AccessToken: strings.TrimSpace(text)}}, nil
	default:
		request, err := clientCredentials(*o)
		return &tokenSource{extensions: o.Extensions, request: request}, err
	}
}

// clientCredentials returns a function that requests a token from a token server (RFC 6749,
// 4.4).
func clientCredentials(o config.OAuth) (func(context.Context) (*oauth2.Token, error), error) {
	secret := o.ClientSecret.Reveal()
	if o.ClientSecretFile != "" {
		var err error
		if secret, err = ReadSecret("sasl.oauth.client_secret_file", o.ClientSecretFile); err != nil {
			return nil, err
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // requests are rare
	if o.CAFile != "" {
		pool, err := authorities(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read sasl.oauth.ca_file: %w", err)
		}
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	}
	conf := clientcredentials.Config{ClientID: o.ClientID, ClientSecret: secret, TokenURL: o.TokenURL, Scopes: o.Scopes}
	if o.Audience != "" {
		conf.EndpointParams = url.Values{"audience": {o.Audience}}
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the secret would be sent to the other server, or the request lose its body
	}}
	return func(ctx context.Context) (*oauth2.Token, error) {
		token, err := conf.Token(context.WithValue(ctx, oauth2.HTTPClient, client))
		if err != nil {
			return nil, fmt.Errorf("request token from %s: %w", o.TokenURL, limits.WithoutPorts(tokenResponse(err)))
		}
		return token, nil
	}, nil
}

// tokenResponse shortens the response of a token server to one line.
func tokenResponse(err error) error {
	r, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok || r.Response == nil {
		return err
	}
	text := r.Response.Status
	if to, err := r.Response.Location(); err == nil && r.Response.StatusCode/100 == 3 {
		to.User, to.RawQuery, to.Fragment = nil, "", ""
		text += ": it redirects to " + to.String() + ", which is not followed; set sasl.oauth.token_url to the final address"
	}
	for _, more := range []string{r.ErrorCode, r.ErrorDescription} {
		if more != "" {
			text += ": " + strings.Join(strings.Fields(more), " ")
		}
	}
	return errors.New(text)
}

// signedToken creates a token for Amazon MSK: a request signed with AWS credentials, which
// the AWS library looks up in the same places as the tools of AWS.
func signedToken(ctx context.Context, region string) (*oauth2.Token, error) {
	text, expires, err := signer.GenerateAuthToken(ctx, region)
	if err != nil {
		return nil, fmt.Errorf("sign token with AWS credentials: %w", limits.WithoutPorts(err))
	}
	return &oauth2.Token{AccessToken: text, Expiry: time.UnixMilli(expires)}, nil
}
