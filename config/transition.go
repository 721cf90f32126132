package config

import "kcagent/config/filewatch"

// The former names of what is in package filewatch now.
type (
	Files        = filewatch.Files
	Prints       = filewatch.Fingerprints
	WatchOptions = filewatch.Options
)

var (
	NewFiles     = filewatch.NewFiles
	Fingerprints = filewatch.Fingerprint
)

// Seal is the former name of SecretHash.
type Seal = SecretHash

// Seals is the former name of SecretHashes.
func (c *Config) Seals() (map[string]SecretHash, error) { return c.SecretHashes() }
