package agent

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"kcagent/config"
)

// credentials are what a cluster's files with certificates and secrets held at
// one moment. They are never changed, only replaced.
type credentials struct {
	tls      *tls.Config   // nil without TLS
	password string        // "" if the mechanism wants none
	tokens   *tokens       // nil if the mechanism wants none
	prints   config.Prints // of the files, taken before they were read: at worst they look older than they are
	since    time.Time     // when they took the place of others; zero if they were the first
}

// readCredentials reads the files that the configuration names; its error says
// which one is at fault.
func readCredentials(cluster config.Cluster) (*credentials, error) {
	k := &credentials{prints: config.Fingerprints(maps.Values(cluster.Files()))}
	var err error
	if cluster.TLS != nil {
		if k.tls, err = tlsConfig(*cluster.TLS); err != nil {
			return nil, err
		}
	}
	if cluster.SASL != nil {
		if k.password, err = readPassword(*cluster.SASL); err != nil {
			return nil, err
		}
		if k.tokens, err = newTokens(*cluster.SASL); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// secure sets TLS and SASL.
func (k *credentials) secure(s *sarama.Config, cluster config.Cluster) {
	if k.tls != nil {
		s.Net.TLS.Enable, s.Net.TLS.Config = true, k.tls
	}
	if a := cluster.SASL; a != nil {
		s.Net.SASL.Enable = true
		s.Net.SASL.Mechanism = sarama.SASLMechanism(a.Mechanism)
		s.Net.SASL.User, s.Net.SASL.Password = a.Username, k.password
		s.Net.SASL.SCRAMClientGeneratorFunc = newScramClient(a.Mechanism)
		if k.tokens != nil {
			s.Net.SASL.Mechanism, s.Net.SASL.TokenProvider = sarama.SASLTypeOAuth, k.tokens
		}
	}
}

func tlsConfig(t config.TLS) (*tls.Config, error) {
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         t.ServerName,
		InsecureSkipVerify: t.InsecureSkipVerify, // declared by the user, for tests
	}
	if t.CAFile != "" {
		text, err := readFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read tls.ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read tls.ca_file %s: no PEM certificate in it", t.CAFile)
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
		return pair, fmt.Errorf("the key is encrypted, and nobody is here to enter its passphrase: "+
			"name a file with what `openssl pkey -in %s` prints", keyFile)
	}
	return pair, err
}

// encrypted reports whether a key is, by PKCS #8 or as OpenSSL once did it
// (RFC 1421).
func encrypted(key []byte) bool {
	for block, rest := pem.Decode(key); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return true
		}
	}
	return false
}

// readFile reads a file with a certificate or a secret, but for the mark that some
// editors begin a text with. A pipe is refused before it is opened, which may
// block for ever.
func readFile(path string) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: it is no regular file", path)
	}
	text, err := os.ReadFile(path)
	return bytes.TrimPrefix(text, []byte("\ufeff")), err
}

func readPassword(a config.SASL) (string, error) {
	if a.PasswordFile == "" {
		return a.Password.Reveal(), nil
	}
	return readSecret("sasl.password_file", a.PasswordFile)
}

// readSecret reads what a file holds, but for a newline at its end; nothing is no
// secret.
func readSecret(field, path string) (string, error) {
	text, err := readFile(path)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", field, err)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if strings.TrimSpace(secret) == "" {
		return "", fmt.Errorf("read %s %s: it is empty", field, path)
	}
	return secret, nil
}
