// Package process runs the programs that tests need. A program it starts never
// outlives the test process, however that ends.
package process

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// A Process is a started program. Its methods are safe for concurrent use.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once the program has ended and was waited for
}

// Start starts cmd. Its outputs must be files: a pipe that somebody else holds
// open would keep the end of the program from being seen.
func Start(cmd *exec.Cmd) (*Process, error) {
	dieWithParent(cmd)
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// Linux ends the child with the thread that made it, not with the
		// process. So this goroutine keeps its thread until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in cmd.ProcessState
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// Pid is the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode is the exit code once Done is closed, -1 if a signal ended the
// program.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Signal sends s. A program that has ended is not an error.
func (p *Process) Signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// Stop asks the program to end with SIGTERM, kills it if it has not ended
// after grace, and returns when it is gone.
func (p *Process) Stop(grace time.Duration) {
	p.Signal(syscall.SIGTERM)
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
		p.Kill()
	}
}

// Kill ends the program at once and returns when it is gone. It works on a
// program that is stopped by SIGSTOP, too.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}
