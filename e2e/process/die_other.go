//go:build !linux

package process

import "os/exec"

// dieWithParent does nothing: other systems have no such setting. If a test is killed there,
// its programs continue.
func dieWithParent(*exec.Cmd) {}
