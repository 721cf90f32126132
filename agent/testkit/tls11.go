package testkit

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
)

// TLS11Error is what a client says to a server that chooses TLS 1.1, whatever
// it was offered.
func TLS11Error(t testing.TB) error {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	hello := append([]byte{22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2}, make([]byte, 32+1+2+1)...)
	hello[len(hello)-3], hello[len(hello)-2] = 0xc0, 0x13 // the cipher
	go func() {
		_, _ = server.Read(make([]byte, 16<<10))
		_, _ = server.Write(hello)
		_, _ = io.Copy(io.Discard, server)
		_ = server.Close()
	}()
	conf := &tls.Config{ServerName: "a", MinVersion: tls.VersionTLS12}
	return tls.Client(client, conf).HandshakeContext(t.Context())
}
