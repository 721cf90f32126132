package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// writeNotes writes RELEASE_NOTES.md: the section of the changelog for the version, or of
// what is unreleased for a snapshot.
func writeNotes(r *release) error {
	changelog, err := os.ReadFile(filepath.Join(r.Source, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	section := r.Version
	if r.Snapshot {
		section = "Unreleased"
	}
	text, err := notes(string(changelog), section)
	if err != nil {
		return err
	}
	return r.write("RELEASE_NOTES.md", []byte("# kcagent "+r.Version+"\n\n"+text))
}

// notes returns the text below the heading of a section, such as "## [1.2.3] - 2026-05-04".
func notes(changelog, section string) (string, error) {
	heading := regexp.MustCompile(`(?m)^## \[` + regexp.QuoteMeta(section) + `\].*\n`).FindStringIndex(changelog)
	if heading == nil {
		return "", fmt.Errorf("CHANGELOG.md has no section [%s]; rename its section [Unreleased], or use --snapshot", section)
	}
	text := changelog[heading[1]:]
	if next := strings.Index(text, "\n## "); next >= 0 {
		text = text[:next]
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", fmt.Errorf("the section [%s] of CHANGELOG.md is empty; describe the changes in it", section)
	}
	return text + "\n", nil
}
