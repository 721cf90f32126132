package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// OpenFiles returns what the open descriptors of a process refer to, as Linux names it: a
// path, or a text such as socket:[123]. It returns nothing on other systems.
func OpenFiles(pid int) []string {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)) // the pattern is valid
	var files []string
	for _, link := range links {
		if file, err := os.Readlink(link); err == nil { // closed meanwhile
			files = append(files, file)
		}
	}
	return files
}

// Memory returns a field of /proc/PID/status in bytes, such as VmRSS for the resident size
// or VmHWM for its peak. It works on Linux only.
func Memory(pid int, field string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	_, rest, _ := strings.Cut(string(status), field+":")
	words := strings.Fields(rest)
	if len(words) == 0 {
		return 0, fmt.Errorf("read memory of process %d: no field %s", pid, field)
	}
	kib, err := strconv.ParseInt(words[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	return kib << 10, nil
}
