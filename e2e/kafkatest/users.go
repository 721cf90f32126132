package kafkatest

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// SetPassword sets the password with which a user may log in by SCRAM.
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
		req := kmsg.NewPtrAlterUserSCRAMCredentialsRequest() // the request may name a user once
		u := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
		u.Name, u.Mechanism, u.Iterations, u.Salt, u.SaltedPassword = user, mechanism, rounds, salt, key
		req.Upsertions = append(req.Upsertions, u)
		Request(t, c, "set the password of "+user, req, func(r *kmsg.AlterUserSCRAMCredentialsResponse) error {
			return code(r.Results[0].ErrorCode)
		})
	}
}
