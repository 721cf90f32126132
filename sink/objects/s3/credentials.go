package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/sync/singleflight"

	"kcagent/limits"
	"kcagent/sink"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/transport"
)

// A source returns the credentials of requests.
type source interface {
	credentials.Provider
	// reject says that the store has rejected the credentials, so that they are read again.
	reject()
	// describe says where a user changes the credentials.
	describe() string
}

func newSource(files sink.Credentials, region string) source {
	if files.AccessKeyFile != "" {
		return &fileSource{files}
	}
	return &chainSource{chain: environment, region: region}
}

// A fileSource reads the files for each request, so that it does not miss a change.
type fileSource struct{ files sink.Credentials }

func (f *fileSource) IsExpired() bool { return true }
func (f *fileSource) reject()         {}
func (f *fileSource) describe() string {
	return "credentials.access_key_file and credentials.secret_key_file"
}

func (f *fileSource) Retrieve() (credentials.Value, error) { return f.RetrieveWithCredContext(nil) }

func (f *fileSource) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	v := credentials.Value{SignerType: credentials.SignatureV4}
	for _, field := range []struct {
		name, file string
		value      *string
	}{
		{"access_key_file", f.files.AccessKeyFile, &v.AccessKeyID},
		{"secret_key_file", f.files.SecretKeyFile, &v.SecretAccessKey},
		{"session_token_file", f.files.SessionTokenFile, &v.SessionToken},
	} {
		if field.file == "" {
			continue
		}
		text, err := transport.ReadSecret("credentials."+field.name, field.file)
		if err != nil {
			return credentials.Value{}, err
		}
		if strings.ContainsFunc(text, unicode.IsSpace) {
			return credentials.Value{}, &store.CredentialsError{Err: fmt.Errorf("read credentials.%s: %s has more than one word; write the value alone", field.name, field.file)}
		}
		*field.value = text
	}
	if v.SecretAccessKey == "" {
		return credentials.Value{}, &store.CredentialsError{Err: errors.New("credentials.access_key_file requires credentials.secret_key_file")}
	}
	return v, nil
}

// environment is the chain of the process. All consumers share it, so that a thousand of them do not
// request a thousand tokens of the same role.
var environment = &chain{}

// A chainSource is the chain for the stores of a region.
type chainSource struct {
	chain  *chain
	region string
}

func (c *chainSource) IsExpired() bool                      { return c.chain.expired(time.Now()) }
func (c *chainSource) reject()                              { c.chain.reject() }
func (c *chainSource) describe() string                     { return c.chain.describe() }
func (c *chainSource) Retrieve() (credentials.Value, error) { return c.chain.get(c.region) }
func (c *chainSource) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return c.chain.get(c.region)
}

// A chain finds credentials where the tools of AWS do: environment, files and profiles, web
// identity, container, instance. It reads all of it again when the files change, some time before
// the credentials expire, and after a rejection.
type chain struct {
	flight singleflight.Group

	mu       sync.Mutex
	value    aws.Credentials // empty if there are none yet
	rejected bool            // by a store
	renew    time.Time       // when to read them again; zero is never
	files    string          // see profileFiles
}

const (
	retrieveTimeout = 20 * time.Second // of instances and token services
	renewBefore     = 5 * time.Minute  // how long before their end credentials are renewed at the latest
	renewRetry      = 10 * time.Second // after a failed renewal
)

func (c *chain) expired(now time.Time) bool {
	files := profileFiles()
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.value.HasKeys() || c.rejected || files != c.files || !c.renew.IsZero() && !now.Before(c.renew)
}

func (c *chain) reject() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rejected = true
}

func (c *chain) describe() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return "the AWS credentials (" + cmp.Or(c.value.Source, "none") + ")"
}

// get returns the present credentials, after reading them if they have expired.
func (c *chain) get(region string) (credentials.Value, error) {
	v, err, _ := c.flight.Do("", func() (any, error) {
		if now := time.Now(); c.expired(now) {
			if err := c.read(region); err != nil {
				return nil, err
			}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.value, nil
	})
	if err != nil {
		return credentials.Value{}, err
	}
	found := v.(aws.Credentials)
	return credentials.Value{
		AccessKeyID: found.AccessKeyID, SecretAccessKey: found.SecretAccessKey, SessionToken: found.SessionToken,
		SignerType: credentials.SignatureV4,
	}, nil
}

// read searches the whole chain. If that fails, credentials that have not expired remain.
func (c *chain) read(region string) error {
	files := profileFiles()
	ctx, cancel := context.WithTimeout(context.Background(), retrieveTimeout)
	defer cancel()
	var found aws.Credentials
	cfg, err := config.LoadDefaultConfig(ctx, config.WithDefaultRegion(region), config.WithLogger(logging.Nop{}))
	if err == nil {
		found, err = cfg.Credentials.Retrieve(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if err != nil {
		if !c.rejected && c.value.CanExpire && now.Before(c.value.Expires) {
			c.renew = now.Add(renewRetry)
			return nil
		}
		c.value = aws.Credentials{}
		return &store.CredentialsError{Err: explainChain(err)}
	}
	c.value, c.rejected, c.files, c.renew = found, false, files, time.Time{}
	if found.CanExpire {
		lifetime := found.Expires.Sub(now)
		c.renew = found.Expires.Add(-min(renewBefore, lifetime/4))
	}
	return nil
}

// profileFiles describes the present state of the files of the chain.
func profileFiles() string {
	var state strings.Builder
	for _, f := range []struct{ variable, otherwise string }{
		{"AWS_SHARED_CREDENTIALS_FILE", config.DefaultSharedCredentialsFilename()},
		{"AWS_CONFIG_FILE", config.DefaultSharedConfigFilename()},
	} {
		path := cmp.Or(os.Getenv(f.variable), f.otherwise)
		if i, err := os.Stat(path); err == nil {
			fmt.Fprintln(&state, path, i.ModTime().UnixNano(), i.Size())
		}
	}
	return state.String()
}

// environmentRegion returns the region that the environment or a profile names, else us-east-1.
func environmentRegion(ctx context.Context) (string, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithDefaultRegion("us-east-1"), config.WithLogger(logging.Nop{}))
	if err != nil {
		return "", fmt.Errorf("read the AWS environment: %w", limits.WithoutPorts(err))
	}
	return cfg.Region, nil
}
