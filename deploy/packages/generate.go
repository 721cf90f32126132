package packages

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"kcagent/cli"
	"kcagent/deploy/licenses"
)

// generate writes the files of the packages that are not in the repository into the folder
// stage: completions, licenses, compressed documents.
func generate(root, stage, version string) error {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		var script, problem bytes.Buffer
		if code := cli.Run([]string{"completion", shell}, &script, &problem); code != 0 {
			return fmt.Errorf("generate completion of %s: %s", shell, &problem)
		}
		if err := os.WriteFile(filepath.Join(stage, "kcagent."+shell), script.Bytes(), 0o600); err != nil {
			return fmt.Errorf("write completion of %s: %w", shell, err)
		}
	}
	thirdParty, err := licenses.Text(root)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(stage, licenses.File), thirdParty, 0o600); err != nil {
		return fmt.Errorf("write licenses: %w", err)
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "man", "*.1"))
	if err != nil || len(pages) == 0 {
		return fmt.Errorf("find manual pages in %s: %w", root, err)
	}
	if err := os.Mkdir(filepath.Join(stage, "man"), 0o700); err != nil {
		return fmt.Errorf("create folder of manual pages: %w", err)
	}
	compressed := map[string]string{
		filepath.Join(root, "CHANGELOG.md"):          filepath.Join(stage, "CHANGELOG.md.gz"),
		filepath.Join(root, "docs", "operations.md"): filepath.Join(stage, "operations.md.gz"),
	}
	for _, page := range pages {
		compressed[page] = filepath.Join(stage, "man", filepath.Base(page)+".gz")
	}
	for from, to := range compressed {
		text, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("read file of the packages: %w", err)
		}
		if err := writeCompressed(to, text); err != nil {
			return err
		}
	}
	date, err := buildDate()
	if err != nil {
		return err
	}
	return writeCompressed(filepath.Join(stage, "changelog.gz"), []byte(debianChangelog(version, date)))
}

// debianChangelog returns the changelog in the form that tools of Debian read. The changes
// themselves are in CHANGELOG.md.
func debianChangelog(version string, date time.Time) string {
	return fmt.Sprintf(`kcagent (%s) unstable; urgency=medium

  * The changes are in /usr/share/doc/kcagent/CHANGELOG.md.gz.

 -- kcagent maintainers <maintainers@kcagent.invalid>  %s
`, version, date.Format(time.RFC1123Z))
}

// buildDate returns the time that SOURCE_DATE_EPOCH sets, or now.
func buildDate() (time.Time, error) {
	epoch, ok := os.LookupEnv("SOURCE_DATE_EPOCH")
	if !ok || epoch == "" {
		return time.Now(), nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("invalid SOURCE_DATE_EPOCH %q: use seconds since 1970", epoch)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// writeCompressed writes text with gzip, without a name and time, which would differ in each
// build.
func writeCompressed(path string, text []byte) error {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return fmt.Errorf("compress %s: %w", path, err)
	}
	if _, err := z.Write(text); err != nil {
		return fmt.Errorf("compress %s: %w", path, err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("compress %s: %w", path, err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
