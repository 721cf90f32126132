package config

import "time"

// An Update is what the watcher found: a good configuration or problems, never
// both.
type Update struct {
	Path     string
	Config   *Config  // nil if there are Problems
	Problems Problems // nil if there is a Config
	SHA256   string   // of the content, hex; "" if the file could not be read
	At       time.Time
}
