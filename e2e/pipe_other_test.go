//go:build !linux

package e2e

// fionread is the same number on all BSDs, including macOS.
const fionread = 0x4004667f
