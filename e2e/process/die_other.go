//go:build !linux

package process

import "os/exec"

// dieWithParent does nothing: only Linux can promise it. Elsewhere a test that
// is killed leaves its programs behind.
func dieWithParent(*exec.Cmd) {}
