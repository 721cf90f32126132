package filewatch

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	ms      = time.Millisecond
	promise = 300 * ms // an edit is delivered this long after its last write
)

func TestFirstFileIsDeliveredAtOnce(t *testing.T) {
	for _, content := range []string{"A", "bad"} {
		inBubble(t, Options{Events: true}, func(b *bubble) {
			b.replace(content, time.Second)
			b.run()
			b.want(0, content)
			b.want(time.Hour)
		})
	}
}

func TestFirstFileIsDeliveredWholeWhileItIsWritten(t *testing.T) {
	inBubble(t, Options{}, func(b *bubble) {
		b.replace("hal", 0)
		b.run()
		time.Sleep(50 * ms)
		b.replace("half", 0)
		b.want(promise, "half")
	})
}

func TestMissingFirstFileIsDelivered(t *testing.T) {
	inBubble(t, Options{Events: true}, func(b *bubble) {
		b.set(fakeFile{err: &fs.PathError{Op: "open", Path: "fake.yaml", Err: fs.ErrNotExist}})
		b.run()
		b.want(grace, "unread")
		b.write("A")
		b.want(promise, "A")
	})
}

func TestContentSaysWhatWasRead(t *testing.T) {
	inBubble(t, Options{}, func(b *bubble) {
		b.replace("A", time.Second)
		b.run()
		synctest.Wait()
		c := <-b.contents
		const sum = "559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd"
		if c.Path != "fake.yaml" || c.SHA256 != sum || !c.At.Equal(time.Now()) || c.Trigger != triggerStart {
			t.Errorf("got %+v", c)
		}
	})
}

func TestEditIsDeliveredWithinThePromise(t *testing.T) {
	edits := map[string]func(b *bubble){
		"one write":               func(b *bubble) { b.write("B") },
		"old file renamed over":   func(b *bubble) { b.replace("B", time.Hour); b.event("fake.yaml") },
		"clock of the file ahead": func(b *bubble) { b.replace("B", -time.Hour); b.event("fake.yaml") },
		"many writes":             func(b *bubble) { inPieces(b, "B", 50, 20*ms) },
		"a second of fast writes": func(b *bubble) { inPieces(b, "B", 1000, ms) },
		"writes for a minute":     func(b *bubble) { inPieces(b, "B", 1200, 50*ms) },
		"signal while it is written": func(b *bubble) {
			b.write("")
			b.signal()
			b.write("B")
		},
		"gone for a moment": func(b *bubble) {
			b.set(fakeFile{err: fs.ErrNotExist})
			b.event("fake.yaml")
			time.Sleep(grace - ms)
			b.write("B")
		},
	}
	for name, edit := range edits {
		t.Run(name, func(t *testing.T) {
			watching(t, func(b *bubble) {
				edit(b)
				b.want(promise, "B")
			})
		})
	}
}

// inPieces writes a file that is bad until its last write.
func inPieces(b *bubble, whole string, n int, pause time.Duration) {
	for i := range n {
		b.write(fmt.Sprintf("bad %d", i))
		time.Sleep(pause)
	}
	b.write(whole)
}

func TestEventsOfOtherFilesNeitherDelayNorCauseChecks(t *testing.T) {
	watching(t, func(b *bubble) {
		b.checks()
		for range 1000 {
			b.event("orders.log")
			time.Sleep(ms)
		}
		if n := b.checks(); n != 0 {
			t.Errorf("%d checks", n)
		}
		b.write("B")
		for range promise / ms {
			b.event("orders.log")
			time.Sleep(ms)
		}
		b.want(0, "B")
	})
}

func TestBurstOfEventsCausesOneCheck(t *testing.T) {
	watching(t, func(b *bubble) {
		b.checks()
		for range 1000 {
			b.write("B")
			time.Sleep(ms)
		}
		b.want(promise, "B")
		if n := b.checks(); n != 1 {
			t.Errorf("%d checks", n)
		}
	})
}

func TestEventsThatNeverPauseDelayNoLongerThanMaxDelay(t *testing.T) {
	watching(t, func(b *bubble) {
		b.write("B")
		deadline := time.Now().Add(2*time.Second + promise)
		for time.Now().Before(deadline) {
			time.Sleep(50 * ms)
			b.write("B") // touched, again and again
		}
		b.want(0, "B")
	})
}

func TestHalfWrittenFileIsNotDelivered(t *testing.T) {
	const poll = 5 * time.Second
	f := func(name string, write func(b *bubble, data string), check func(b *bubble)) {
		t.Run(name, func(t *testing.T) {
			watching(t, func(b *bubble) {
				time.Sleep(poll - 20*ms)
				write(b, "h")
				check(b)
				b.want(90 * ms)
				write(b, "hal")
				b.want(90 * ms)
				write(b, "half")
				b.want(promise, "half")
			})
		})
	}
	silent := func(b *bubble, data string) { b.replace(data, 0) }
	// The clock of a file server may be far behind.
	remote := func(b *bubble, data string) { b.replace(data, time.Hour) }
	nothing := func(*bubble) {}

	f("event", (*bubble).write, nothing)
	f("event and signal", (*bubble).write, (*bubble).signal)
	f("signal", silent, (*bubble).signal)
	f("poll", silent, nothing)
	f("poll of a clock behind", remote, nothing)
}

func TestPollFindsEditWithoutEvent(t *testing.T) {
	watching(t, func(b *bubble) {
		time.Sleep(time.Second)
		b.replace("B", 0)
		b.want(5*time.Second, "B")
	})
}

func TestSignalChecksAtOnce(t *testing.T) {
	watching(t, func(b *bubble) {
		b.replace("B", time.Second)
		b.signal()
		b.want(0, "B")
	})
}

func TestLostEventsCauseACheck(t *testing.T) {
	watching(t, func(b *bubble) {
		b.replace("B", 0)
		b.source.failures <- fsnotify.ErrEventOverflow
		b.want(promise, "B")
	})
}

func TestSameContentIsNotDelivered(t *testing.T) {
	watching(t, func(b *bubble) {
		b.write("A")
		b.want(time.Minute)
	})
}

func TestRevertWithinDebounceIsIgnored(t *testing.T) {
	watching(t, func(b *bubble) {
		b.write("B")
		time.Sleep(50 * ms)
		b.write("A")
		b.want(time.Minute)
	})
}

func TestRollbackIsDelivered(t *testing.T) {
	watching(t, func(b *bubble) {
		b.write("bad")
		b.want(promise, "bad")
		b.write("bad")
		b.want(time.Minute)
		b.write("A")
		b.want(promise, "A")
	})
}

func TestMissingOrEmptyFileIsDeliveredAfterTheGracePeriod(t *testing.T) {
	f := func(name, delivered string, file fakeFile) {
		t.Run(name, func(t *testing.T) {
			watching(t, func(b *bubble) {
				// For less than the grace period it may be an editor that saves.
				b.set(file)
				b.event("fake.yaml")
				b.want(grace - ms)
				b.write("A")
				b.want(time.Minute)

				b.set(file)
				b.event("fake.yaml")
				b.want(grace+promise, delivered)
				b.want(time.Minute)
				b.write("A")
				b.want(promise, "A")
			})
		})
	}
	f("missing", "unread", fakeFile{err: fs.ErrNotExist})
	f("unreadable", "unread", fakeFile{err: fs.ErrPermission})
	f("empty", "", fakeFile{data: ""})
	f("blank", " \n", fakeFile{data: " \n"})
}

func TestWithoutEventsOnlyASignalChecks(t *testing.T) {
	inBubble(t, Options{Events: false}, func(b *bubble) {
		b.replace("A", time.Second)
		b.run()
		b.want(0, "A")
		b.replace("B", 0)
		b.want(time.Hour)
		b.signal()
		b.want(0, "B")
		b.replace("C", 0)
		b.signal() // too fresh to be sure of: checked again without another signal
		b.want(promise, "C")
	})
}

func TestPollsFasterWhileEventsAreNotAvailable(t *testing.T) {
	cannot := errors.New("too many watches")
	inBubble(t, Options{Events: true}, func(b *bubble) {
		b.setUnavailable(cannot)
		b.replace("A", time.Hour)
		b.run()
		b.want(0, "A")
		b.replace("B", 0)
		b.want(time.Second+promise, "B")

		b.setUnavailable(nil)
		time.Sleep(time.Second)
		b.write("C")
		b.want(promise, "C")
		b.setUnavailable(cannot) // the watcher exists and a watch fails
		time.Sleep(5 * time.Second)
		b.replace("D", 0)
		b.want(time.Second+promise, "D")

		warnings := strings.Count(b.logged.String(), "level=WARN")
		if again := strings.Count(b.logged.String(), "available again"); warnings != 2 || again != 1 {
			t.Errorf("warned %d times and logged the recovery %d times:\n%s", warnings, again, b.logged.String())
		}
	})
}
