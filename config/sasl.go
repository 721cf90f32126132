package config

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// SASL configures how connections are authenticated. Password or PasswordFile is set if
// the mechanism requires one, never both.
type SASL struct {
	Mechanism    Mechanism `yaml:"mechanism" doc:"How to authenticate." default:"required in sasl" example:"SCRAM-SHA-512"`
	Username     string    `yaml:"username" doc:"User name, for PLAIN and SCRAM." default:"required for PLAIN and SCRAM" example:"kcagent"`
	Password     Secret    `yaml:"password" doc:"Password. Prefer password_file." default:"none" example:"'${KAFKA_PASSWORD:-secret}'"`
	PasswordFile string    `yaml:"password_file" doc:"File that holds the password; a newline at its end is ignored." default:"this or password is required for PLAIN and SCRAM" example:"/run/secrets/kafka"`
	OAuth        *OAuth    `yaml:"oauth" doc:"Source of the token, for OAUTHBEARER." default:"required for OAUTHBEARER" example:"{token_file: /run/secrets/token}"`
	AWS          *AWS      `yaml:"aws" doc:"Settings for AWS_MSK_IAM. The credentials come from the default chain of the AWS SDK: environment, profile, web identity, container, instance." default:"required for AWS_MSK_IAM" example:"{region: eu-west-1}"`
}

// OAuth configures the source of a token: a file that another program keeps up to date,
// or a server, for a client id and its secret (RFC 6749, 4.4).
type OAuth struct {
	TokenFile        string            `yaml:"token_file" doc:"File that holds the token, which another program keeps up to date." default:"this or token_url is required" example:"/run/secrets/token"`
	TokenURL         string            `yaml:"token_url" doc:"Instead of token_file: endpoint for tokens by client credentials (RFC 6749, 4.4). A token is renewed before it expires, and when a broker rejects it. Redirects are not followed." default:"none" example:"https://login.example.com/oauth2/token"`
	ClientID         string            `yaml:"client_id" doc:"Client id for token_url." default:"required for token_url" example:"kcagent"`
	ClientSecret     Secret            `yaml:"client_secret" doc:"Secret of the client. Prefer client_secret_file." default:"none" example:"'${CLIENT_SECRET:-secret}'"`
	ClientSecretFile string            `yaml:"client_secret_file" doc:"File that holds the secret of the client; a newline at its end is ignored." default:"this or client_secret is required for token_url" example:"/run/secrets/client"`
	Scopes           []string          `yaml:"scopes" doc:"Scopes to request at token_url." default:"none" example:"[kafka]"`
	Audience         string            `yaml:"audience" doc:"Audience to request at token_url, if its server requires one." default:"none" example:"kafka"`
	CAFile           string            `yaml:"ca_file" doc:"PEM file of the certificate authorities to trust for token_url." default:"the system's authorities" example:"/etc/kcagent/login-ca.pem"`
	Extensions       map[string]string `yaml:"extensions" doc:"SASL extensions to send with the token (KIP-342)." default:"none" example:"{logicalCluster: lkc-1}"`
}

// AWS configures how to log in to Amazon MSK. The credentials come from the default chain
// of the AWS SDK: environment, profile, web identity, container, instance.
type AWS struct {
	Region string `yaml:"region" doc:"AWS region of the cluster." default:"required for AWS_MSK_IAM" example:"eu-west-1"`
}

// Files returns the paths of the files with the cluster's certificates and secrets, by the
// field that names them.
func (c Cluster) Files() map[string]string {
	files := make(map[string]string)
	if t := c.TLS; t != nil {
		files["tls.ca_file"], files["tls.cert_file"], files["tls.key_file"] = t.CAFile, t.CertFile, t.KeyFile
	}
	if s := c.SASL; s != nil {
		files["sasl.password_file"] = s.PasswordFile
		if o := s.OAuth; o != nil {
			files["sasl.oauth.token_file"], files["sasl.oauth.client_secret_file"] = o.TokenFile, o.ClientSecretFile
			files["sasl.oauth.ca_file"] = o.CAFile
		}
	}
	maps.DeleteFunc(files, func(_, path string) bool { return path == "" })
	return files
}

// Mechanism is a SASL mechanism, or AWS_MSK_IAM, which is OAUTHBEARER with a
// token that the agent signs with AWS credentials.
type Mechanism string

// The mechanisms.
const (
	Plain       Mechanism = "PLAIN"
	ScramSHA256 Mechanism = "SCRAM-SHA-256"
	ScramSHA512 Mechanism = "SCRAM-SHA-512"
	OAuthBearer Mechanism = "OAUTHBEARER"
	MSKIAM      Mechanism = "AWS_MSK_IAM"
)

// Values lists the legal mechanisms.
func (Mechanism) Values() []string {
	return []string{string(Plain), string(ScramSHA256), string(ScramSHA512), string(OAuthBearer), string(MSKIAM)}
}

// byPassword reports that the mechanism requires a user name and a password.
func (m Mechanism) byPassword() bool { return m != OAuthBearer && m != MSKIAM }

func (p *parser) checkSASL(n *yaml.Node, path string, s SASL) {
	missing := func(field, hint string) {
		p.doc.ReportField(n, path, field, "missing: required for "+string(s.Mechanism), hint)
	}
	switch m := s.Mechanism; {
	case m == "":
		p.doc.ReportField(n, path, "sasl.mechanism", "missing", "use one of "+strings.Join(m.Values(), ", "))
		return
	case !slices.Contains(m.Values(), string(m)):
		return
	case m.byPassword() && s.Username == "":
		missing("sasl.username", "")
	case m.byPassword() && s.Password.IsSet() && s.PasswordFile != "":
		p.doc.ReportField(n, path, "sasl.password_file", "cannot be combined with password", "remove password")
	case m.byPassword() && !s.Password.IsSet() && s.PasswordFile == "" && !p.doc.Reported(path+".sasl.password"):
		p.doc.ReportField(n, path, "sasl.password_file", "missing: a password is required for "+string(m), "set the file that holds it")
	case m == OAuthBearer && s.OAuth == nil:
		missing("sasl.oauth", "write `oauth: {token_file: …}`, or token_url, client_id and client_secret_file")
	case m == OAuthBearer:
		p.checkOAuth(n, path, *s.OAuth)
	case m == MSKIAM && (s.AWS == nil || s.AWS.Region == ""):
		missing("sasl.aws.region", "write `aws: {region: …}`, such as eu-west-1")
	}
	unused := func(field string, set, used bool) {
		if set && !used {
			p.doc.ReportField(n, path, field, "cannot be combined with "+string(s.Mechanism), "remove it, or choose another mechanism")
		}
	}
	unused("sasl.username", s.Username != "", s.Mechanism.byPassword())
	unused("sasl.password", s.Password.IsSet(), s.Mechanism.byPassword())
	unused("sasl.password_file", s.PasswordFile != "", s.Mechanism.byPassword())
	unused("sasl.oauth", s.OAuth != nil, s.Mechanism == OAuthBearer)
	unused("sasl.aws", s.AWS != nil, s.Mechanism == MSKIAM)
}

func (p *parser) checkOAuth(n *yaml.Node, path string, o OAuth) {
	const at = "sasl.oauth."
	switch {
	case o.TokenFile == "" && o.TokenURL == "":
		p.doc.ReportField(n, path, "sasl.oauth", "missing: set the source of the token", "write token_file, or token_url with client_id and client_secret_file")
	case o.TokenFile != "" && o.TokenURL != "":
		p.doc.ReportField(n, path, at+"token_url", "cannot be combined with token_file", "remove one")
	case o.TokenFile != "":
		for field, set := range map[string]bool{
			"client_id": o.ClientID != "", "client_secret": o.ClientSecret.IsSet(), "client_secret_file": o.ClientSecretFile != "",
			"scopes": o.Scopes != nil, "audience": o.Audience != "", "ca_file": o.CAFile != "",
		} {
			if set {
				p.doc.ReportField(n, path, at+field, "cannot be combined with token_file", "remove it")
			}
		}
	default:
		p.checkTokenURL(n, path, at, o)
	}
	for key := range o.Extensions {
		if !isExtensionName(key) {
			p.doc.ReportField(n, path, at+"extensions", "invalid extension "+strconv.Quote(key)+": must be letters, and cannot be auth", "")
		}
	}
}

func (p *parser) checkTokenURL(n *yaml.Node, path, at string, o OAuth) {
	u, err := url.Parse(o.TokenURL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		p.doc.ReportField(n, path, at+"token_url", "invalid URL: must be an http or https address", "use a URL such as https://login.example.com/oauth2/token")
	case u.User != nil:
		p.doc.ReportField(n, path, at+"token_url", "contains a user or a password, which would be visible", "use client_id and client_secret_file")
	}
	switch {
	case o.ClientID == "":
		p.doc.ReportField(n, path, at+"client_id", "missing: required for token_url", "")
	case o.ClientSecret.IsSet() && o.ClientSecretFile != "":
		p.doc.ReportField(n, path, at+"client_secret_file", "cannot be combined with client_secret", "remove client_secret")
	case !o.ClientSecret.IsSet() && o.ClientSecretFile == "" && !p.doc.Reported(path+"."+at+"client_secret"):
		p.doc.ReportField(n, path, at+"client_secret_file", "missing: a secret is required for token_url", "set the file that holds it")
	}
}

// isExtensionName reports whether RFC 7628 allows the name.
func isExtensionName(key string) bool {
	return key != "" && key != "auth" && !strings.ContainsFunc(key, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}
