package e2e

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// pipeFill returns how many bytes a pipe holds.
func pipeFill(t *testing.T, reader *os.File) int {
	t.Helper()
	conn, err := reader.SyscallConn() // Fd would make the pipe's reads uninterruptible
	if err != nil {
		t.Fatal(err)
	}
	var n int
	var ctlErr error
	if err := conn.Control(func(fd uintptr) { n, ctlErr = unix.IoctlGetInt(int(fd), fionread) }); err != nil || ctlErr != nil {
		t.Fatal(err, ctlErr)
	}
	return n
}
