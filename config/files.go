package config

import (
	"context"
	"iter"
	"maps"
	"os"
	"syscall"
)

// Files are the paths of the files that hold the cluster's certificates and
// secrets, by the field that names them.
func (c Cluster) Files() map[string]string {
	files := make(map[string]string)
	if t := c.TLS; t != nil {
		files["tls.ca_file"], files["tls.cert_file"], files["tls.key_file"] = t.CAFile, t.CertFile, t.KeyFile
	}
	if s := c.SASL; s != nil {
		files["sasl.password_file"] = s.PasswordFile
		if o := s.OAuth; o != nil {
			files["sasl.oauth.token_file"], files["sasl.oauth.client_secret_file"] = o.TokenFile, o.ClientSecretFile
			files["sasl.oauth.ca_file"] = o.CAFile
		}
	}
	maps.DeleteFunc(files, func(_, path string) bool { return path == "" })
	return files
}

// Prints say what files hold, by path: equal ones for equal content, or for the
// same reason why it cannot be read.
type Prints map[string]string

// Fingerprints reads files now.
func Fingerprints(paths iter.Seq[string]) Prints {
	l := newLookout(WatchOptions{})
	prints := make(Prints)
	for p := range paths {
		prints[p] = l.find(p).key
	}
	return prints
}

// Files tells of every change of the content of files that a configuration
// names, such as certificates and passwords: noticed as a [Watcher] notices
// edits, and told once it has held still.
type Files struct {
	lookout

	changes chan Prints
	reload  chan os.Signal
	told    Prints
}

// NewFiles watches nothing before Run and Set. Of o, Reload and Getenv are not used.
func NewFiles(o WatchOptions) *Files {
	f := &Files{changes: make(chan Prints, 1), reload: make(chan os.Signal, 1), told: make(Prints)}
	o.Reload = f.reload
	f.lookout = newLookout(o)
	f.aimed = make(chan []string, 1)
	return f
}

// Set says which files to watch from now on. One goroutine at a time may call it.
func (f *Files) Set(paths []string) { newest(f.aimed, paths) }

// Look has the files looked at now.
func (f *Files) Look() {
	select {
	case f.reload <- syscall.SIGHUP:
	default: // one waits already
	}
}

// Changes brings what all the files hold, whenever that has changed for one of
// them. Only the newest waits here. The channel is never closed.
func (f *Files) Changes() <-chan Prints { return f.changes }

// Run watches until ctx ends. It may be called once.
func (f *Files) Run(ctx context.Context) { f.run(ctx, f.look) }

func (f *Files) look(why string) {
	now := make(Prints, len(f.paths))
	held := make(map[string]sighting)
	for _, path := range f.paths {
		if before, ok := f.told[path]; ok {
			now[path] = before
		}
		found := f.find(path)
		if found.key == now[path] {
			continue
		}
		if wait := f.wait(path, found, why); wait > 0 {
			held[path] = f.held[path]
			f.due.again(found.at.Add(wait))
			continue
		}
		now[path] = found.key
	}
	f.held = held
	if maps.Equal(now, f.told) {
		return
	}
	f.told = now
	newest(f.changes, maps.Clone(now))
}
