package transport

import (
	"fmt"
	"os"
	"strings"

	"kcagent/sink/objects/store"
)

// ReadSecret returns the content of a file with a secret, which a setting names. Callers read it for
// each request, so that no change is missed. The error is a [*store.CredentialsError].
func ReadSecret(setting, file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", &store.CredentialsError{Err: fmt.Errorf("read %s: %w", setting, err)}
	}
	if secret := strings.TrimSpace(string(text)); secret != "" {
		return secret, nil
	}
	return "", &store.CredentialsError{Err: fmt.Errorf("read %s: %s is empty", setting, file)}
}
