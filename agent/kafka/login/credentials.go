package login

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/config/filewatch"
)

// Credentials are what the files of a cluster with certificates and secrets contained when
// they were read. They are never changed, only replaced.
type Credentials struct {
	TLS      *tls.Config  // nil without TLS
	password string       // "" if the mechanism needs none
	tokens   *tokenSource // nil if the mechanism needs none
	// Fingerprints are the fingerprints of the files. They are taken before the files are read,
	// so a file that changes in between is read again.
	Fingerprints filewatch.Fingerprints
	Breaker      *Breaker // nil for a pre-check
}

// ReadCredentials reads the files that the configuration names. Its error names the file
// that cannot be used.
func ReadCredentials(cluster config.Cluster) (*Credentials, error) {
	c := &Credentials{Fingerprints: filewatch.Fingerprint(maps.Values(cluster.Files()))}
	var err error
	if cluster.TLS != nil {
		if c.TLS, err = tlsConfig(*cluster.TLS); err != nil {
			return nil, err
		}
	}
	if cluster.SASL != nil {
		if c.password, err = readPassword(*cluster.SASL); err != nil {
			return nil, err
		}
		if c.tokens, err = newTokenSource(*cluster.SASL); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Configure sets TLS and SASL.
func (c *Credentials) Configure(s *sarama.Config, cluster config.Cluster) {
	if c.TLS != nil {
		s.Net.TLS.Enable, s.Net.TLS.Config = true, c.TLS
	}
	if a := cluster.SASL; a != nil {
		s.Net.SASL.Enable = true
		s.Net.SASL.Mechanism = sarama.SASLMechanism(a.Mechanism)
		s.Net.SASL.User, s.Net.SASL.Password = a.Username, c.password
		s.Net.SASL.SCRAMClientGeneratorFunc = newScramClient(a.Mechanism)
		if c.tokens != nil {
			s.Net.SASL.Mechanism, s.Net.SASL.TokenProvider = sarama.SASLTypeOAuth, c.tokens
		}
	}
}

// RecordError records an error of a connection that was opened with these credentials. A
// token that was rejected is not used for the next login.
func (c *Credentials) RecordError(err error) {
	if c.Breaker.recordError(err) && c.tokens != nil && errors.Is(err, sarama.ErrSASLAuthenticationFailed) {
		c.tokens.discard()
	}
}

// RecordClusterError is [Credentials.RecordError] if the connection is unknown: it may have
// been opened with the credentials that these have replaced a moment ago.
func (c *Credentials) RecordClusterError(err error) {
	if !c.Breaker.replacedLately() {
		c.RecordError(err)
	}
}

func tlsConfig(t config.TLS) (*tls.Config, error) {
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         t.ServerName,
		InsecureSkipVerify: t.InsecureSkipVerify, // declared by the user, for tests
	}
	if t.CAFile != "" {
		var err error
		if conf.RootCAs, err = authorities(t.CAFile); err != nil {
			return nil, fmt.Errorf("read tls.ca_file: %w", err)
		}
	}
	if t.CertFile != "" {
		cert, err := keyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load tls.cert_file %s with tls.key_file %s: %w", t.CertFile, t.KeyFile, err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}

// authorities reads the certificates of authorities. Its error has no name of a setting,
// because two settings name such files.
func authorities(path string) (*x509.CertPool, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("parse %s: no PEM certificate found", path)
	}
	return pool, nil
}

func keyPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := readFile(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := readFile(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil && encrypted(key) {
		return pair, fmt.Errorf("private key is encrypted; provide an unencrypted key, such as the output of `openssl pkey -in %s`", keyFile)
	}
	return pair, err
}

// encrypted reports whether a key is encrypted, by PKCS #8 or in the older format of
// OpenSSL (RFC 1421).
func encrypted(key []byte) bool {
	for block, rest := pem.Decode(key); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return true
		}
	}
	return false
}

// readFile reads a file with a certificate or a secret, without the byte order mark that
// some editors put at the start. A pipe is rejected before it is opened, because that may
// block forever.
func readFile(path string) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: not a regular file", path)
	}
	text, err := os.ReadFile(path)
	return bytes.TrimPrefix(text, []byte("\ufeff")), err
}

func readPassword(a config.SASL) (string, error) {
	if a.PasswordFile == "" {
		return a.Password.Reveal(), nil
	}
	return ReadSecret("sasl.password_file", a.PasswordFile)
}

// ReadSecret reads a file without the newlines at its end. An empty file is an error.
func ReadSecret(field, path string) (string, error) {
	text, err := readFile(path)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", field, err)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if strings.TrimSpace(secret) == "" {
		return "", fmt.Errorf("read %s %s: file is empty", field, path)
	}
	return secret, nil
}
