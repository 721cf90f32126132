package packages

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	// semantic is a version of semver.org, such as v1.2.3-rc.1+debian.
	semantic = regexp.MustCompile(`^v?(\d+\.\d+\.\d+)(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?$`)
	// described is what git describe adds to the last tag: commits since then, the commit, and
	// whether files were changed.
	described = regexp.MustCompile(`-(\d+-g[0-9a-f]+(?:-dirty)?|dirty)$`)
	// untagged is the version of a repository without tags.
	untagged = regexp.MustCompile(`^(?:devel|[0-9a-f]{7,40}(?:-dirty)?)$`)
)

// Version returns a version of the program as both dpkg and rpm order it: v1.2.3-rc.1 becomes
// 1.2.3~rc.1, which is before 1.2.3. The output of git describe, v1.2.3-4-gabcdef0, becomes
// 1.2.3+4.gabcdef0, which is after 1.2.3 and before 1.2.4. A build without any tag, devel or
// abcdef0, becomes 0.0.0~devel or 0.0.0~abcdef0, before all others.
func Version(of string) (string, error) {
	if untagged.MatchString(of) {
		return "0.0.0~" + dotted(of), nil
	}
	tag := described.ReplaceAllString(of, "")
	parts := semantic.FindStringSubmatch(tag)
	if parts == nil {
		return "", fmt.Errorf("invalid version %q: use a semantic version such as v1.2.3 or v1.2.3-rc.1", of)
	}
	version := parts[1]
	if parts[2] != "" {
		version += "~" + dotted(parts[2])
	}
	if parts[3] != "" {
		version += "+" + dotted(parts[3])
	}
	if since := described.FindStringSubmatch(of); since != nil {
		version += "+" + dotted(since[1])
	}
	return version, nil
}

// dotted replaces the hyphen, which separates the revision of a package from its version.
func dotted(s string) string { return strings.ReplaceAll(s, "-", ".") }
