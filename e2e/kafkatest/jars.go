package kafkatest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// cacheEnv is the environment variable with the folder for jars, instead of the user's
// cache folder.
const cacheEnv = "KCAGENT_CACHE"

const mavenTimeout = 5 * time.Minute

// pom lists the broker and a logger that needs no configuration file.
const pom = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>kcagent</groupId><artifactId>kafka-for-tests</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>%s</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
`

// jarFolder returns the folder for the jars of a version. It may not exist yet.
func jarFolder(version string) (string, error) {
	cache := os.Getenv(cacheEnv)
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a folder for kafka's jars: %w; set %s", err, cacheEnv)
		}
		cache = filepath.Join(user, "kcagent")
	}
	return filepath.Join(cache, "kafka-"+version), nil
}

// fetchJars returns the folder with all jars of a version.
func fetchJars(version string) (string, error) {
	dir, err := jarFolder(version)
	if err != nil {
		return "", err
	}
	return fetchOnce(dir, fmt.Sprintf(pom, version))
}

// fetchOnce downloads the dependencies of a pom into dir, unless it exists. If several
// processes need them, one downloads and the others wait.
func fetchOnce(dir, pom string, flags ...string) (string, error) {
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("create folder for kafka's jars: %w", err)
	}
	unlock, err := lock(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil { // another process has downloaded them
		return dir, nil
	}
	return dir, mavenCopy(dir, pom, flags)
}

// mavenCopy creates dir with all dependencies, or does not create it.
func mavenCopy(dir, pom string, flags []string) error {
	work, err := os.MkdirTemp(filepath.Dir(dir), "fetching-")
	if err != nil {
		return fmt.Errorf("create folder for kafka's jars: %w", err)
	}
	defer os.RemoveAll(work)
	if err := os.WriteFile(filepath.Join(work, "pom.xml"), []byte(pom), 0o600); err != nil {
		return fmt.Errorf("write pom for kafka's jars: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), mavenTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mvn", append([]string{
		"-q", "-B", "dependency:copy-dependencies",
		"-DincludeScope=runtime", "-DoutputDirectory=" + filepath.Join(work, "jars"),
	}, flags...)...)
	cmd.Dir = work
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fetch %s through maven: %w\n%s", filepath.Base(dir), err, out)
	}
	if err := os.Rename(filepath.Join(work, "jars"), dir); err != nil {
		return fmt.Errorf("keep kafka's jars: %w", err)
	}
	return nil
}

// lock takes an advisory lock, which the end of the process releases as well.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock of kafka's jars: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock kafka's jars: %w", err)
	}
	return func() { _ = f.Close() }, nil
}
