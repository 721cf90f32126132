package kafkatest

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// SetPassword lets a user log in with SCRAM and this password, and no other.
func (c *Cluster) SetPassword(t testing.TB, user, password string) {
	t.Helper()
	const rounds = 4096
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	for mechanism := int8(1); mechanism <= 2; mechanism++ {
		var key []byte
		var err error
		if mechanism == 1 {
			key, err = pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
		} else {
			key, err = pbkdf2.Key(sha512.New, password, salt, rounds, sha512.Size)
		}
		if err != nil {
			t.Fatal(err)
		}
		req := kmsg.NewPtrAlterUserSCRAMCredentialsRequest() // a user may stand in it once
		u := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
		u.Name, u.Mechanism, u.Iterations, u.Salt, u.SaltedPassword = user, mechanism, rounds, salt, key
		req.Upsertions = append(req.Upsertions, u)
		for _, r := range ask(t, c, req).Results {
			check(t, "set the password of "+r.User, r.ErrorCode)
		}
	}
}
