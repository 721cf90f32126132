// Floor approximates the lower limit for the programs that kcagent is compared with: it
// only moves the bytes. It reads from a connection to a server that sends the log of a
// topic by sendfile, as a broker does, and writes all that it reads to a file. It parses,
// verifies and commits nothing. At the end it syncs the file once, and then creates
// FILE.synced.
//
// It does so in the cheapest way of those tried: one connection, a buffer of 256 KiB, and disk
// space for all BYTES allocated ahead. With two connections, their writes waited for each other
// in the file system.
//
//	floor ADDRESS FILE BYTES
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: floor ADDRESS FILE BYTES")
	}
	size, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return err
	}
	// The program must exist while its CPU time is read, so it waits for a signal.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	f, err := os.Create(args[1])
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size); err != nil {
		return err
	}
	if err := move(args[0], f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.WriteFile(args[1]+".synced", nil, 0o600); err != nil {
		return err
	}
	<-stop
	return nil
}

// move writes what a connection brings to a file.
func move(address string, f *os.File) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	buf := make([]byte, 256<<10)
	for {
		n, err := io.ReadFull(conn, buf)
		if n > 0 {
			if _, err := f.Write(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}
