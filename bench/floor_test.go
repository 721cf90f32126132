package bench

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// drainFloor runs the floor program on the log of a topic. The benchmark's own process
// sends the log's files by sendfile. The files are in the page cache, because the broker
// has just sent them, too.
func drainFloor(b *testing.B, dir, logs string, l load) result {
	b.Helper()
	var logFiles []string
	var total int64
	for i := range l.partitions {
		files, err := filepath.Glob(filepath.Join(logs, fmt.Sprint(l.topic(), "-", i), "*.log"))
		if err != nil || len(files) == 0 {
			b.Fatalf("no log of partition %d of %s: %v", i, l.topic(), err)
		}
		for _, file := range files {
			info, err := os.Stat(file)
			if err != nil {
				b.Fatal(err)
			}
			total += info.Size()
		}
		logFiles = append(logFiles, files...)
	}
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	sent := make(chan error, 1)
	go func() { sent <- sendTo(server, logFiles) }()
	out := filepath.Join(dir, "out")
	r := drain(b, program{
		cmd:    exec.Command(filepath.Join(dir, "floor"), server.Addr().String(), out, fmt.Sprint(total)),
		broker: server.Addr().String(), out: out, want: total, synced: out + ".synced",
	}, l)
	if err := <-sent; err != nil {
		b.Fatal(err)
	}
	return r
}

// sendTo sends files to the next client.
func sendTo(server net.Listener, files []string) error {
	conn, err := server.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(conn, f) // by sendfile
		_ = f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
