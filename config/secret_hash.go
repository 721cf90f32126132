package config

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// A SecretHash shows a holder of a secret whether it is the same one, and does not reveal
// it to anybody else: guessing passwords is as slow as OWASP requires of stored ones
// (PBKDF2-HMAC-SHA256, 600,000 rounds).
type SecretHash struct {
	Salt []byte `json:"salt"`
	Key  []byte `json:"key"`
}

const secretHashRounds = 600_000

func newSecretHash(text string) (SecretHash, error) {
	h := SecretHash{Salt: make([]byte, 16)}
	_, _ = rand.Read(h.Salt) // never fails
	var err error
	h.Key, err = h.key(text)
	return h, err
}

func (h SecretHash) key(text string) ([]byte, error) {
	return pbkdf2.Key(sha256.New, text, h.Salt, secretHashRounds, sha256.Size)
}

// matches reports whether the hash is that of text.
func (h SecretHash) matches(text string) bool {
	key, err := h.key(text)
	return err == nil && subtle.ConstantTimeCompare(key, h.Key) == 1
}

// secret returns the secret that is part of the configuration itself; nil if there is
// none.
func (c Cluster) secret() *Secret {
	switch s := c.SASL; {
	case s == nil:
	case s.Password.IsSet():
		return &s.Password
	case s.OAuth != nil && s.OAuth.ClientSecret.IsSet():
		return &s.OAuth.ClientSecret
	}
	return nil
}

// Secrets returns the texts of all secrets that are part of the configuration itself.
func (c *Config) Secrets() (texts []string) { return secretsIn(reflect.ValueOf(*c)) }

func secretsIn(v reflect.Value) (texts []string) {
	if s, ok := v.Interface().(Secret); ok {
		if s.IsSet() {
			texts = append(texts, s.Reveal())
		}
		return texts
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			texts = secretsIn(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				texts = append(texts, secretsIn(v.Field(i))...)
			}
		}
	case reflect.Map:
		for _, e := range v.Seq2() {
			texts = append(texts, secretsIn(e)...)
		}
	case reflect.Slice:
		for i := range v.Len() {
			texts = append(texts, secretsIn(v.Index(i))...)
		}
	}
	return texts
}

// SecretHashes returns the hashes of the clusters' secrets, by the name of the cluster.
// Each takes a tenth of a second.
func (c *Config) SecretHashes() (map[string]SecretHash, error) {
	hashes := make(map[string]SecretHash)
	for name, cluster := range c.Clusters {
		secret := cluster.secret()
		if secret == nil {
			continue
		}
		hash, err := newSecretHash(secret.Reveal())
		if err != nil {
			return nil, fmt.Errorf("hash the secret of cluster %s: %w", name, err)
		}
		hashes[name] = hash
	}
	return hashes, nil
}

// FromNormalised returns the configuration that [Config.Normalised] encodes as JSON. A
// secret whose hash matches that of the same cluster in mine is that secret; any other
// one stays unknown, and differs from all secrets.
func FromNormalised(shown []byte, hashes map[string]SecretHash, mine *Config) (*Config, error) {
	if !json.Valid(shown) {
		return nil, errors.New("decode configuration: invalid JSON")
	}
	// JSON is YAML; nothing in it is a variable.
	text := strings.ReplaceAll(string(shown), "$", "$$")
	c, problems := Parse("configuration", []byte(text), func(string) (string, bool) { return "", false })
	if len(problems) > 0 {
		return nil, fmt.Errorf("decode configuration: %w", problems)
	}
	for name, hash := range hashes {
		theirs, ours := c.Clusters[name].secret(), mine.Clusters[name].secret()
		if theirs != nil && ours != nil && hash.matches(ours.Reveal()) {
			*theirs = *ours // the consumers of the cluster point to it, too
		}
	}
	return c, nil
}
