package kafkatest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strconv"
	"testing"
	"time"
)

// An Issuer signs tokens that brokers accept for OAUTHBEARER.
type Issuer struct{ key *rsa.PrivateKey }

// NewIssuer returns an issuer with a new key.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &Issuer{key}
}

const keyID = "test"

// Token returns a token for a user that expires after lifetime (RFC 7519). A negative
// lifetime returns an expired token.
func (i *Issuer) Token(t testing.TB, user string, lifetime time.Duration) string {
	t.Helper()
	now := time.Now()
	text := part(t, map[string]any{"alg": "RS256", "kid": keyID}) + "." + part(t, map[string]any{
		"sub": user, "iss": "kafkatest", "aud": "kafka", "scope": "kafka", "iat": now.Unix(), "exp": now.Add(lifetime).Unix(), "jti": strconv.FormatInt(now.UnixNano(), 36),
	})
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// part encodes the header or the claims of a token.
func part(t testing.TB, claims map[string]any) string {
	t.Helper()
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// keys returns the public key in the form that brokers read (RFC 7517).
func (i *Issuer) keys() ([]byte, error) {
	encode := base64.RawURLEncoding.EncodeToString
	return json.Marshal(map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "alg": "RS256", "use": "sig", "kid": keyID,
		"n": encode(i.key.N.Bytes()), "e": encode(big.NewInt(int64(i.key.E)).Bytes()),
	}}})
}

// accept adds the settings with which a broker accepts tokens of an issuer. The caller
// writes text into keysFile.
func (b *Broker) accept(props map[string]string, i *Issuer) (keysFile string, text []byte, err error) {
	const login, modules = "listener.name.secure.oauthbearer.", "org.apache.kafka.common.security.oauthbearer."
	keysFile = b.dir + "/jwks.json"
	b.flags = append(b.flags, "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://"+keysFile)
	props["listener.name.secure.sasl.enabled.mechanisms"] += ",OAUTHBEARER"
	props[login+"sasl.jaas.config"] = modules + "OAuthBearerLoginModule required;"
	props[login+"sasl.server.callback.handler.class"] = modules + "OAuthBearerValidatorCallbackHandler"
	props[login+"sasl.oauthbearer.jwks.endpoint.url"] = "file://" + keysFile
	props[login+"sasl.oauthbearer.expected.audience"], props[login+"sasl.oauthbearer.expected.issuer"] = "kafka", "kafkatest"
	text, err = i.keys()
	return keysFile, text, err
}
