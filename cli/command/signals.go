package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// signals returns a context that ends with the first SIGTERM or SIGINT. A second one ends
// the process at once. stop must be called when the command is done.
func signals(stderr io.Writer) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	got := make(chan os.Signal, 2)
	signal.Notify(got, syscall.SIGTERM, os.Interrupt)
	done := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case s := <-got:
				if n > 0 {
					fmt.Fprintf(stderr, "kcagent: second signal (%s): terminated at once\n", s)
					os.Exit(Failure)
				}
				cancel(fmt.Errorf("received %s", s))
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(got)
		close(done)
		cancel(nil)
	}
}

// SurviveBrokenPipes causes a write to a standard stream without a reader fail with EPIPE,
// for the rest of the process. Otherwise the Go runtime would end the process with SIGPIPE,
// and with it every consumer, undrained, when the reader of the log exits. The signal is
// caught, not ignored, because child processes would inherit an ignored one.
func SurviveBrokenPipes() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // the signal is not used
}
