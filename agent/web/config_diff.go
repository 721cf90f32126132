package web

import (
	"net/http"
	"sync"

	"kcagent/config/textdiff"
)

// ConfigDiff is what /config/diff shows.
type ConfigDiff struct {
	State      string `json:"state" doc:"synced, applying or rejected, as config.state of /status."`
	SHA256     string `json:"sha256" doc:"SHA-256 of the file whose content is in force, in hex."`
	FileSHA256 string `json:"file_sha256" doc:"SHA-256 of the file as last read, in hex; empty if it could not be read."`
	Diff       string `json:"diff" doc:"Unified diff from the text in force to the text of the file, with three lines of context. Secrets are shown as <secret>. Empty if the texts are equal, or if the file could not be read."`
	Truncated  bool   `json:"truncated" doc:"Whether the diff is longer than 64 KiB, or a text longer than 2 MiB: the diff ends early, or is empty."`
}

func (a *API) serveConfigDiff(w http.ResponseWriter, r *http.Request) {
	snap := a.o.Snapshot()
	if snap.Config == nil {
		replyError(w, r, http.StatusServiceUnavailable, "no configuration was applied yet")
		return
	}
	_, _, changing := snap.consumers(everything, nil, true)
	d := ConfigDiff{State: snap.configStatus(changing).State, SHA256: snap.Reloads.SHA256, FileSHA256: snap.Reloads.FileSHA256}
	d.Diff, d.Truncated = a.diffs.of(snap)
	reply(w, r, http.StatusOK, &d)
}

// A diffCache has the diff that was requested last.
type diffCache struct {
	mu               sync.Mutex
	sha256, fileHash string
	diff             string
	truncated        bool
}

func (c *diffCache) of(s *Snapshot) (diff string, truncated bool) {
	reloads := &s.Reloads
	if reloads.FileSHA256 == "" { // an empty text would look as if everything was removed
		return "", false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sha256 != reloads.SHA256 || c.fileHash != reloads.FileSHA256 {
		c.diff, c.truncated = textdiff.Unified(reloads.Text, reloads.FileText, s.Config.Secrets())
		c.sha256, c.fileHash = reloads.SHA256, reloads.FileSHA256
	}
	return c.diff, c.truncated
}
