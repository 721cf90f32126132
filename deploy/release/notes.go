package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"kcagent/deploy/image"
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
	text = relativeLink.ReplaceAllString(text, "$1")
	files := strings.NewReplacer("'", "`", "VERSION", r.Version, "TAG", image.Tag(r.Version)).Replace(filesOfRelease)
	return r.write("RELEASE_NOTES.md", []byte("# kcagent "+r.Version+"\n\n"+text+files))
}

// relativeLink matches a link to a file of the repository, which leads nowhere outside it.
var relativeLink = regexp.MustCompile(`\[([^\]]*)\]\([^):]*\)`)

// filesOfRelease is the last section of the notes, with ' in place of `.
const filesOfRelease = `
## Files

| file | for |
|---|---|
| 'kcagent-VERSION-linux-ARCH.tar.gz' | any Linux: program, documentation, examples, unit, manual pages, completions, alerts, dashboard |
| '.deb', '.rpm' | hosts with systemd: Debian and Ubuntu; Fedora, RHEL and SUSE |
| 'kcagent-VERSION-image-ARCH.docker.tar' | 'docker load -i FILE' or 'podman load -i FILE', which prints the name 'kcagent:TAG' |
| 'kcagent-VERSION-image.oci.tar' | a registry, with all architectures: 'skopeo copy --all oci-archive:FILE docker://registry.example.com/kcagent:TAG' |
| 'kcagent-VERSION-chart.tgz' | Kubernetes: 'helm install kcagent FILE' |
| 'kcagent-VERSION-linux-ARCH.cdx.json' | the bill of materials (CycloneDX) |

To verify downloaded files, run 'sha256sum --ignore-missing -c SHA256SUMS' in their folder.
`

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
