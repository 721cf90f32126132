package kafkatest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// requireEnv, set to 1, turns the skip of Require into a failure, for CI.
const requireEnv = "KCAGENT_REQUIRE_KAFKA"

// oldestJava is what Kafka 4 brokers need.
const oldestJava = 17

// Require skips the test, loudly, where Kafka cannot run because Java, or
// Maven while the jars are not cached yet, is missing. With
// KCAGENT_REQUIRE_KAFKA=1 it fails the test instead.
func Require(t testing.TB) {
	t.Helper()
	why := missing()
	if why == nil {
		return
	}
	if os.Getenv(requireEnv) == "1" {
		t.Fatalf("%s=1, but tests against real Kafka cannot run: %v", requireEnv, why)
	}
	line := fmt.Sprintf("SKIPPED: needs Java %d and Maven: %v", oldestJava, why)
	shout(line)
	t.Skip(line)
}

// missing says what this machine lacks; nil is nothing. It looks once.
var missing = sync.OnceValue(func() error {
	if err := checkJava(); err != nil {
		return err
	}
	if dir, err := jarFolder(Version); err == nil {
		if _, err := os.Stat(dir); err == nil {
			return nil
		}
	}
	if _, err := exec.LookPath("mvn"); err != nil {
		return errors.New("mvn is not in PATH")
	}
	return nil
})

func checkJava() error {
	if _, err := exec.LookPath("java"); err != nil {
		return errors.New("java is not in PATH")
	}
	out, err := exec.Command("java", "-version").CombinedOutput()
	if err != nil {
		return fmt.Errorf("run java -version: %w: %s", err, out)
	}
	// Such as: openjdk version "17.0.15" 2025-04-15
	_, rest, _ := bytes.Cut(out, []byte(`version "`))
	major, _, _ := bytes.Cut(rest, []byte(`"`))
	major, _, _ = bytes.Cut(major, []byte("."))
	major, _, _ = bytes.Cut(major, []byte("-"))
	if n, err := strconv.Atoi(string(major)); err != nil || n < oldestJava {
		return fmt.Errorf("java is too old or unknown: %s", bytes.TrimSpace(out))
	}
	return nil
}

// shout prints line, once a process, where a person sees it. The go command
// hides what a passing package prints, on stderr too, so the line goes to the
// go command's own stderr where the system lets us find that.
func shout(line string) {
	onceShouted.Do(func() {
		program := filepath.Base(os.Args[0])
		fmt.Fprintf(os.Stderr, "%s: %s\n", program, line)
		parent := "/proc/" + strconv.Itoa(os.Getppid())
		if name, err := os.ReadFile(parent + "/comm"); err != nil || string(bytes.TrimSpace(name)) != "go" {
			return
		}
		if f, err := os.OpenFile(parent+"/fd/2", os.O_WRONLY|os.O_APPEND, 0); err == nil {
			fmt.Fprintf(f, "%s: %s\n", program, line)
			_ = f.Close()
		}
	})
}

var onceShouted sync.Once
