package login

import (
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"kcagent/config"
	"kcagent/e2e/certs"
)

// TestSecretFilesAreReadWithoutEditorTraces: a byte order mark and a newline at the end are
// not part of a secret, but spaces are. A link is followed, as Kubernetes needs it. A pipe
// is rejected, because opening it may block forever.
func TestSecretFilesAreReadWithoutEditorTraces(t *testing.T) {
	dir := t.TempDir()
	file, link, pipe := filepath.Join(dir, "secret"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.WriteFile(file, []byte("\ufeff s \r\n"), 0o600), os.Symlink(file, link), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	password := func(path string) config.Cluster {
		return config.Cluster{SASL: &config.SASL{Mechanism: config.Plain, Username: "u", PasswordFile: path}}
	}
	if k, err := ReadCredentials(password(link)); err != nil || k.password != " s " {
		t.Errorf("the password is %+v, %v", k, err)
	}
	k, err := ReadCredentials(config.Cluster{SASL: &config.SASL{Mechanism: config.OAuthBearer, OAuth: &config.OAuth{TokenFile: link}}})
	if err != nil || k.tokens.current.AccessToken != "s" {
		t.Errorf("the token is %+v, %v", k, err)
	}
	for want, cluster := range map[string]config.Cluster{
		"read sasl.password_file: open " + pipe + ": not a regular file": password(pipe),
		"read tls.ca_file: open " + pipe + ": not a regular file":        {TLS: &config.TLS{CAFile: pipe}},
		"read sasl.oauth.ca_file: open " + pipe + ": not a regular file": {SASL: &config.SASL{Mechanism: config.OAuthBearer, OAuth: &config.OAuth{TokenURL: "https://login", CAFile: pipe}}},
	} {
		if _, err := ReadCredentials(cluster); err == nil || err.Error() != want {
			t.Errorf("a pipe is %v, want %s", err, want)
		}
	}
}

// TestEncryptedKeyIsReported: a byte order mark before the first PEM block is ignored. A
// key with a passphrase cannot be used, whichever way it is encrypted.
func TestEncryptedKeyIsReported(t *testing.T) {
	dir, authority := t.TempDir(), certs.NewAuthority(t, "authority")
	client := authority.Issue(t, "client")
	in := func(name string, text []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	marked := func(text []byte) []byte { return append([]byte("\ufeff"), text...) }
	block := func(kind string, headers map[string]string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Headers: headers, Bytes: []byte("no telling")})
	}
	good := config.TLS{CAFile: in("ca", marked(authority.PEM)), CertFile: in("cert", marked(client.Cert)), KeyFile: in("key", marked(client.Key))}
	if _, err := tlsConfig(good); err != nil {
		t.Errorf("with marks: %v", err)
	}
	for _, key := range [][]byte{
		block("ENCRYPTED PRIVATE KEY", nil),
		block("RSA PRIVATE KEY", map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}),
	} {
		locked := good
		locked.KeyFile = in("locked", key)
		want := "with tls.key_file " + locked.KeyFile + ": private key is encrypted; provide an unencrypted key, such as the output of `openssl pkey -in " + locked.KeyFile + "`"
		if _, err := tlsConfig(locked); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("with %s: %v", key, err)
		}
	}
}

// TestEmptySecretFileIsRejected: a file that contains only newlines is not sent to a broker
// as a secret.
func TestEmptySecretFileIsRejected(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	for field, sasl := range map[string]config.SASL{
		"sasl.password_file":            {Mechanism: config.ScramSHA512, Username: "u", PasswordFile: file},
		"sasl.oauth.token_file":         {Mechanism: config.OAuthBearer, OAuth: &config.OAuth{TokenFile: file}},
		"sasl.oauth.client_secret_file": {Mechanism: config.OAuthBearer, OAuth: &config.OAuth{TokenURL: "http://a", ClientSecretFile: file}},
	} {
		for _, text := range []string{"", "\n", "\r\n\n"} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			want := "read " + field + " " + file + ": file is empty"
			if _, err := ReadCredentials(config.Cluster{SASL: &sasl}); err == nil || err.Error() != want {
				t.Errorf("%q is %v, want %s", text, err, want)
			}
		}
	}
}
