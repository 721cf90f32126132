package agent

import (
	"context"
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
	// tokenTimeout bounds how long a login waits for a token: sarama's requests
	// to the broker wait behind it.
	tokenTimeout = 10 * time.Second
	// tokenPause is how long nobody asks again after a failure, at
	// least: every connection of every consumer would.
	tokenPause = 4 * time.Second
	// tokenSpare is how long before its end a token is replaced, if it does not
	// live shortly.
	tokenSpare = time.Minute
)

// A tokenError says that there was no token to log in with.
type tokenError struct{ error }

func (e *tokenError) Unwrap() error { return e.error }

// tokens give sarama's connections their tokens. Its methods are safe for
// concurrent use; connections that want one at the same time share a request.
type tokens struct {
	extensions map[string]string
	get        func(context.Context) (*oauth2.Token, error)

	mu     sync.Mutex
	now    *oauth2.Token
	got    time.Time // when that was
	until  time.Time // when now is to be replaced; zero if it never ends
	failed error     // why there was no other one; nil if the last question brought one
	retry  time.Time // not before
}

// Token implements sarama.AccessTokenProvider.
func (t *tokens) Token() (*sarama.AccessToken, error) {
	t.mu.Lock()
	defer t.mu.Unlock() // others wait for the request in flight rather than send one more
	if t.due() {
		ctx, cancel := context.WithTimeout(context.Background(), tokenTimeout)
		defer cancel()
		token, err := t.get(ctx)
		if err != nil {
			t.failed, t.retry = &tokenError{err}, time.Now().Add(retry.Jitter(2*tokenPause))
		} else {
			t.take(token)
		}
	}
	if !t.good() {
		return nil, t.failed
	}
	return &sarama.AccessToken{Token: t.now.AccessToken, Extensions: t.extensions}, nil
}

// due reports that another token is to be asked for now.
func (t *tokens) due() bool {
	now := time.Now()
	return now.After(t.retry) && (t.now == nil || !t.until.IsZero() && now.After(t.until))
}

// good reports that there is a token to show: one that is to be replaced serves
// until its end, should its server fail meanwhile.
func (t *tokens) good() bool {
	return t.now != nil && (t.failed == nil || t.now.Expiry.IsZero() || time.Now().Before(t.now.Expiry))
}

// take keeps a token. Servers need not say when theirs end (RFC 6749, 5.1), but
// one that is a JWT does. One that has ended by the clock here may be good by
// the broker's: it is used, and replaced soon.
func (t *tokens) take(token *oauth2.Token) {
	t.now, t.got, t.failed = token, time.Now(), nil
	if token.Expiry.IsZero() {
		token.Expiry = endOf(token.AccessToken)
	}
	switch lives := token.Expiry.Sub(t.got); {
	case token.Expiry.IsZero():
		t.until = time.Time{}
	case lives <= 0:
		t.until = t.got.Add(tokenPause)
	default:
		t.until = token.Expiry.Add(-min(tokenSpare, lives/5))
	}
}

// forget drops a token that a broker has refused, so that the next connection
// asks for another one. A token that came a moment ago stays for a while: its
// successor would be no better, and the server be asked for one all the time.
func (t *tokens) discard() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.get != nil && time.Since(t.got) > tokenPause {
		t.now = nil
	}
}

// endOf is when a token ends, as it says itself if it is a JWT (RFC 7519); zero
// if it says nothing. Nobody here needs to check who signed it.
func endOf(token string) time.Time {
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

// newTokens returns what gives tokens: nil if the mechanism wants none. The
// content of files is that of now.
func newTokens(s config.SASL) (*tokens, error) {
	switch o := s.OAuth; {
	case s.Mechanism == config.MSKIAM:
		return &tokens{get: func(ctx context.Context) (*oauth2.Token, error) { return signedToken(ctx, s.AWS.Region) }}, nil
	case s.Mechanism != config.OAuthBearer:
		return nil, nil
	case o.TokenFile != "":
		text, err := readSecret("sasl.oauth.token_file", o.TokenFile)
		if err != nil {
			return nil, err
		}
		return &tokens{extensions: o.Extensions, now: &oauth2.Token{AccessToken: strings.TrimSpace(text)}}, nil
	default:
		get, err := clientCredentials(*o)
		return &tokens{extensions: o.Extensions, get: get}, err
	}
}

// clientCredentials asks a token server (RFC 6749, 4.4).
func clientCredentials(o config.OAuth) (func(context.Context) (*oauth2.Token, error), error) {
	secret := o.ClientSecret.Reveal()
	if o.ClientSecretFile != "" {
		var err error
		if secret, err = readSecret("sasl.oauth.client_secret_file", o.ClientSecretFile); err != nil {
			return nil, err
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // a request in an hour
	if o.CAFile != "" {
		conf, err := tlsConfig(config.TLS{CAFile: o.CAFile})
		if err != nil {
			return nil, fmt.Errorf("sasl.oauth.ca_file: %w", err)
		}
		transport.TLSClientConfig = conf
	}
	ask := clientcredentials.Config{ClientID: o.ClientID, ClientSecret: secret, TokenURL: o.TokenURL, Scopes: o.Scopes}
	if o.Audience != "" {
		ask.EndpointParams = url.Values{"audience": {o.Audience}}
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the secret would go along, or the question be lost
	}}
	return func(ctx context.Context) (*oauth2.Token, error) {
		token, err := ask.Token(context.WithValue(ctx, oauth2.HTTPClient, client))
		if err != nil {
			return nil, fmt.Errorf("get a token from %s: %w", o.TokenURL, limits.WithoutPorts(answered(err)))
		}
		return token, nil
	}, nil
}

// answered makes one line of what a token server said.
func answered(err error) error {
	var refusal *oauth2.RetrieveError
	if !errors.As(err, &refusal) || refusal.Response == nil {
		return err
	}
	text := refusal.Response.Status
	if to, err := refusal.Response.Location(); err == nil && refusal.Response.StatusCode/100 == 3 {
		to.User, to.RawQuery, to.Fragment = nil, "", ""
		text += ": it redirects to " + to.String() + ", which is not followed: name the right one in sasl.oauth.token_url"
	}
	for _, more := range []string{refusal.ErrorCode, refusal.ErrorDescription} {
		if more != "" {
			text += ": " + strings.Join(strings.Fields(more), " ")
		}
	}
	return errors.New(text)
}

// signedToken makes a token for Amazon MSK: a request signed with AWS credentials,
// which AWS's library finds as AWS's own tools do.
func signedToken(ctx context.Context, region string) (*oauth2.Token, error) {
	text, expires, err := signer.GenerateAuthToken(ctx, region)
	if err != nil {
		return nil, fmt.Errorf("sign a token with AWS credentials: %w", limits.WithoutPorts(err))
	}
	return &oauth2.Token{AccessToken: text, Expiry: time.UnixMilli(expires)}, nil
}
