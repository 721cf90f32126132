package limits

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestEachPartGetsItsShareOfDescriptors(t *testing.T) {
	for _, c := range []struct{ limit, files, connections, stores, brokers, members int }{
		{-1, 0, 8, 4, 4, 2},
		{20, 10, 8, 4, 4, 2},
		{64, 32, 8, 4, 4, 2},
		{256, 128, 32, 16, 64, 56},
		{1024, 512, 128, 32, 288, 252},
		{4096, 2048, 256, 32, 1504, 1316},
		{1 << 40, 1 << 19, 256, 32, 1<<19 - 256 - 32 - 1<<16, 401_156},
	} {
		d := divide(c.limit)
		if d.Files != c.files || d.Connections != c.connections || d.Stores != c.stores || d.Brokers != c.brokers || d.Members != c.members {
			t.Errorf("%d: %+v, want %d for files, %d for connections, %d for stores and %d for brokers, %d of them for members", c.limit, d, c.files, c.connections, c.stores, c.brokers, c.members)
		}
		if rest := d.Limit - d.Files - d.Connections - d.Stores - d.Brokers; c.limit >= 64 && rest < 16 {
			t.Errorf("%d: %+v leaves too little for the rest", c.limit, d)
		}
	}
}

// TestSharesInTheSizingGuide: the table of docs/sizing.md has the shares of each limit. A file
// and its checkpoint are two descriptors.
func TestSharesInTheSizingGuide(t *testing.T) {
	text, err := os.ReadFile("../docs/sizing.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| ([0-9,]+) \| ([0-9,]+) \| ([0-9,]+) \|$`).FindAllStringSubmatch(string(text), -1)
	if len(rows) < 3 {
		t.Fatalf("%d rows were found", len(rows))
	}
	number := func(text string) int {
		n, err := strconv.Atoi(strings.ReplaceAll(text, ",", ""))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, row := range rows {
		if d := divide(number(row[1])); d.Files/2 != number(row[2]) || d.Members != number(row[3]) {
			t.Errorf("the row is %s, want %d files and %d consumers", row[0], d.Files/2, d.Members)
		}
	}
}

// TestOfIsTheHardLimit: the soft limit is raised before anything reads it.
func TestOfIsTheHardLimit(t *testing.T) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		t.Fatal(err)
	}
	if d := Of(); r.Max < unlimited && d.Limit < int(r.Max)-1 { // Go leaves one
		t.Errorf("%+v, while the hard limit is %d", d, r.Max)
	}
}
