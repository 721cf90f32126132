package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kcagent/e2e/kafkatest"
)

// rows writes lines of a CSV file. Comments above the header say what was measured where.
type rows struct {
	b    testing.TB
	path string // empty discards the lines
}

func newRows(b testing.TB, name, header string) rows {
	b.Helper()
	dir := os.Getenv("KCAGENT_BENCH_OUT")
	if dir == "" {
		return rows{}
	}
	r := rows{b, filepath.Join(dir, name)}
	_ = os.Remove(r.path)
	for _, fact := range facts() {
		r.add("# %s: %s", fact[0], fact[1])
	}
	r.add("%s", header)
	return r
}

func (r rows) add(format string, args ...any) {
	if r.path == "" {
		return
	}
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		r.b.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintf(f, format+"\n", args...)
}

// facts returns what was measured, when, and on which machine.
func facts() [][2]string {
	kernel := "unknown"
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		kernel = unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
	}
	info, _ := os.ReadFile("/proc/cpuinfo")
	memory, _ := os.ReadFile("/proc/meminfo")
	commit := output("git", "rev-parse", "--short=12", "HEAD")
	if output("git", "status", "--porcelain", "--untracked-files=no", ":/", ":!/docs") != "" {
		commit += ", with changes"
	}
	all := [][2]string{
		{"commit", commit},
		{"date", time.Now().UTC().Format("2006-01-02 15:04 UTC")},
		{"cores", fmt.Sprint(runtime.NumCPU())},
		{"processor", after(string(info), "model name\t: ")},
		{"memory", after(string(memory), "MemTotal:")},
		{"kernel", kernel},
		{"go", runtime.Version()},
		{"kafka", kafkatest.Newest},
		{"kcat", strings.Join(strings.Fields(output("sh", "-c", "kcat -V | grep -Eo '(Version|librdkafka) [0-9.]+'")), " ")},
	}
	if note := os.Getenv("KCAGENT_BENCH_NOTE"); note != "" {
		all = append(all, [2]string{"note", note})
	}
	return all
}

// after returns the rest of the first line that begins with a text.
func after(text, prefix string) string {
	_, rest, _ := strings.Cut("\n"+text, "\n"+prefix)
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}

// output returns what a command prints, or nothing if it fails.
func output(name string, args ...string) string {
	text, _ := exec.Command(name, args...).Output()
	return strings.TrimSpace(string(text))
}
