package kafkatest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"

	"kcagent/e2e/loud"
)

// requireEnv, set to 1, makes Require fail a test that it would skip. CI sets it.
const requireEnv = "KCAGENT_REQUIRE_KAFKA"

// oldestJava is the oldest version of Java that runs Kafka 4.
const oldestJava = 17

// Require skips the test with a notice where Kafka cannot run: with -short, where Java is
// missing, and where Maven is missing while the jars are not cached. With
// KCAGENT_REQUIRE_KAFKA=1 it fails the test instead. Every test that starts a server calls
// it, directly or by [Start] or [Shared.Cluster], so that go test -short runs the others
// only.
func Require(t testing.TB) {
	t.Helper()
	if testing.Short() {
		loud.Skip(t, requireEnv, "-short excludes the tests on real Kafka")
	}
	why := missing()
	if why == nil {
		return
	}
	loud.Skip(t, requireEnv, fmt.Sprintf("tests on real Kafka need Java %d and Maven: %v", oldestJava, why))
}

// missing returns what the machine lacks; nil if Kafka can run. It checks once.
var missing = sync.OnceValue(func() error {
	if err := checkJava(); err != nil {
		return err
	}
	cached := true
	for _, version := range []string{Newest, Old} {
		dir, err := jarFolder(version)
		if err == nil {
			_, err = os.Stat(dir)
		}
		cached = cached && err == nil
	}
	if cached {
		return nil
	}
	if _, err := exec.LookPath("mvn"); err != nil {
		return errors.New("mvn is not in PATH")
	}
	return nil
})

// requireCompiler is [Require] for a test that runs Java source code, which requires a JDK.
func requireCompiler(t testing.TB) {
	t.Helper()
	if why := missingCompiler(); why != nil {
		loud.Skip(t, requireEnv, fmt.Sprintf("tests with a Java client need a JDK: %v", why))
	}
}

// missingCompiler returns why the machine cannot run Java source code; nil if it can. It
// checks once.
var missingCompiler = sync.OnceValue(func() error {
	out, err := exec.Command("java", "--list-modules").CombinedOutput()
	if err != nil {
		return fmt.Errorf("run java --list-modules: %w: %s", err, out)
	}
	if !bytes.Contains(out, []byte("jdk.compiler@")) {
		return errors.New("java has no module jdk.compiler")
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
