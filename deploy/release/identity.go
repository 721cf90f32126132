package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// An identity says which state of which source code is released.
type identity struct {
	Source   string // the root folder of the module, absolute
	Version  string // without a leading v
	Revision string // the commit; "unknown" for a snapshot outside git
	Created  time.Time
	Snapshot bool
}

var semantic = regexp.MustCompile(`^v?(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?)$`)

// identify determines the version: the given one, or the tag of the commit. It rejects states
// that cannot be built again: a working tree with changes, and a commit without a tag. For a
// snapshot, it accepts any state. The time is SOURCE_DATE_EPOCH, or the time of the commit.
func identify(ctx context.Context, source, version string, snapshot bool) (identity, error) {
	source, err := filepath.Abs(source)
	if err != nil {
		return identity{}, err
	}
	if text, err := os.ReadFile(filepath.Join(source, "go.mod")); err != nil || !strings.HasPrefix(string(text), "module kcagent\n") {
		return identity{}, fmt.Errorf("%s is not the root of kcagent; run the command there", source)
	}
	id := identity{Source: source, Snapshot: snapshot}
	dirty, gitErr := id.commit(ctx)
	if gitErr != nil {
		if !snapshot {
			return identity{}, fmt.Errorf("read the commit: %w; use a clone of the repository, or --snapshot", gitErr)
		}
		id.Revision = "unknown"
	}
	if err := id.setTime(gitErr); err != nil {
		return identity{}, err
	}
	if dirty && !snapshot {
		return identity{}, errors.New("the working tree has changes; commit them, or use --snapshot")
	}
	switch {
	case version != "":
	case snapshot:
		version = "0.0.0-dev+" + id.Revision[:min(len(id.Revision), 12)]
		if dirty {
			version += ".dirty"
		}
	default:
		if version, err = git(ctx, source, "describe", "--tags", "--exact-match", "--match", "v*"); err != nil {
			return identity{}, noTag(ctx, source)
		}
	}
	parts := semantic.FindStringSubmatch(version)
	if parts == nil {
		return identity{}, fmt.Errorf("invalid version %q: use a semantic version such as v1.2.3", version)
	}
	id.Version = parts[1]
	return id, nil
}

// noTag returns the error for a commit without a tag of a version.
func noTag(ctx context.Context, source string) error {
	tag, err := git(ctx, source, "describe", "--tags", "--exact-match", "--match", "[0-9]*")
	if err == nil && semantic.MatchString(tag) {
		return fmt.Errorf("the tag %[1]s has no leading v; create another with git tag v%[1]s", tag)
	}
	return errors.New("the commit has no tag; create it with git tag v1.2.3, or use --version or --snapshot")
}

// commit sets the revision and its time, and reports whether the working tree differs.
func (id *identity) commit(ctx context.Context) (dirty bool, err error) {
	if id.Revision, err = git(ctx, id.Source, "rev-parse", "HEAD"); err != nil {
		return false, err
	}
	seconds, err := git(ctx, id.Source, "show", "-s", "--format=%ct", "HEAD")
	if err != nil {
		return false, err
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return false, fmt.Errorf("parse time of the commit: %w", err)
	}
	id.Created = time.Unix(n, 0).UTC()
	changes, err := git(ctx, id.Source, "status", "--porcelain")
	return changes != "", err
}

// setTime applies SOURCE_DATE_EPOCH, as reproducible-builds.org defines it.
func (id *identity) setTime(gitErr error) error {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		if gitErr != nil {
			return fmt.Errorf("read the time of the commit: %w; set SOURCE_DATE_EPOCH", gitErr)
		}
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("invalid SOURCE_DATE_EPOCH %q: use seconds since 1970", text)
	}
	id.Created = time.Unix(n, 0).UTC()
	return nil
}

// git runs git in dir. The folder may belong to another user, as it does in some CI systems.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "safe.directory=" + dir, "-C", dir}, args...)...)
	var problem strings.Builder
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(problem.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
