package config

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"strings"
)

// A Seal lets somebody who has a secret find out whether it is the same,
// and nobody else what it is: to try passwords against it is as slow as OWASP
// asks for stored ones (PBKDF2-HMAC-SHA256, 600,000 rounds).
type Seal struct {
	Salt []byte `json:"salt"`
	Key  []byte `json:"key"`
}

const sealRounds = 600_000

func newSeal(text string) (Seal, error) {
	s := Seal{Salt: make([]byte, 16)}
	_, _ = rand.Read(s.Salt) // never fails
	var err error
	s.Key, err = s.key(text)
	return s, err
}

func (s Seal) key(text string) ([]byte, error) {
	return pbkdf2.Key(sha256.New, text, s.Salt, sealRounds, sha256.Size)
}

// fits reports whether the seal is that of text.
func (s Seal) fits(text string) bool {
	key, err := s.key(text)
	return err == nil && subtle.ConstantTimeCompare(key, s.Key) == 1
}

// secret is the one that stands in the configuration itself; nil if none does.
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

// Seals are those of the clusters' secrets. Each takes a tenth of a second.
func (c *Config) Seals() (map[string]Seal, error) {
	seals := make(map[string]Seal)
	for name, cluster := range c.Clusters {
		secret := cluster.secret()
		if secret == nil {
			continue
		}
		seal, err := newSeal(secret.Reveal())
		if err != nil {
			return nil, fmt.Errorf("seal the secret of cluster %s: %w", name, err)
		}
		seals[name] = seal
	}
	return seals, nil
}

// FromNormalised is the configuration that [Config.Normalised] shows as JSON. A
// secret that is sealed there is that of the same cluster in mine if it fits,
// and else some other one.
func FromNormalised(shown []byte, seals map[string]Seal, mine *Config) (*Config, error) {
	if !json.Valid(shown) {
		return nil, fmt.Errorf("decode configuration: it is no JSON")
	}
	// JSON is YAML; nothing in it is a variable.
	text := strings.ReplaceAll(string(shown), "$", "$$")
	c, problems := Parse("configuration", []byte(text), func(string) (string, bool) { return "", false })
	if len(problems) > 0 {
		return nil, fmt.Errorf("decode configuration: %w", problems)
	}
	for name, seal := range seals {
		theirs, ours := c.Clusters[name].secret(), mine.Clusters[name].secret()
		if theirs != nil && ours != nil && seal.fits(ours.Reveal()) {
			*theirs = *ours // the consumers of the cluster point to it, too
		}
	}
	return c, nil
}
