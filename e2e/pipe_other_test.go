//go:build !linux

package e2e

// fionread is the same number on all BSDs, macOS among them.
const fionread = 0x4004667f
