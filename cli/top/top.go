// Package top is the live table of kcagent top: the consumers of a running agent on a full
// screen. The model is a plain value that keys and responses change; screen.go draws it with
// tcell. Start reading with [Run] and model.
package top

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/gdamore/tcell/v3"

	"kcagent/agent/web"
	"kcagent/cli/client"
	"kcagent/cli/statustable"
)

// Interval is the time between two requests. MinInterval is the least that users can set.
const (
	Interval    = 2 * time.Second
	MinInterval = 100 * time.Millisecond
)

// redrawInterval is how often ages are drawn again between two responses.
const redrawInterval = time.Second

// An Agent is the agent to show. Its URL is shown without a password. Interval is the time
// between two requests.
type Agent struct {
	client.Client
	URL      string
	Interval time.Duration
}

// Run shows the consumers until the user quits or ctx ends. It returns with the terminal
// restored, also if it panics. It returns an error without a terminal, if the agent does not
// respond at the start, or if the terminal fails.
func Run(ctx context.Context, a Agent) error {
	if !onTerminal() {
		return errNoTerminal
	}
	first := request(ctx, a.Client, "")
	if first.err != nil {
		return first.err
	}
	screen, err := openScreen()
	if err != nil {
		return err
	}
	defer screen.Fini()
	return show(ctx, screen, a, first)
}

// show draws the screen and handles keys and responses until the user quits.
func show(ctx context.Context, screen tcell.Screen, a Agent, first answer) error {
	m := newModel(redacted(a.URL))
	m.now = first.at
	m.receive(first)
	f := &fetcher{client: a.Client, answers: make(chan answer, 1)}
	var stop context.CancelFunc
	f.ctx, stop = context.WithCancel(ctx)
	defer f.wait()
	defer stop()
	next := time.NewTicker(a.Interval)
	defer next.Stop()
	again := time.NewTicker(redrawInterval)
	defer again.Stop()
	for {
		m.now = time.Now()
		m.width, m.height = screen.Size()
		draw(screen, m.frame())
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		case <-next.C:
			f.start(m.detailName())
		case answer := <-f.answers:
			f.running = false
			if answer.panicked != nil {
				panic(answer.panicked)
			}
			m.receive(answer)
			if f.again {
				f.start(m.detailName())
			}
		case event, open := <-screen.EventQ():
			if !open {
				return nil
			}
			switch e := event.(type) {
			case *tcell.EventResize:
				screen.Sync()
			case *tcell.EventError:
				return fmt.Errorf("read terminal: %w", e)
			case *tcell.EventKey:
				switch m.press(keyOf(e)) {
				case quit:
					return nil
				case redraw:
					screen.Sync()
				case fetch:
					f.start(m.detailName())
				}
			}
		}
	}
}

// A fetcher has at most one round of requests in progress, in a goroutine of its own, so
// that keys work while the agent does not respond.
type fetcher struct {
	ctx     context.Context
	client  client.Client
	answers chan answer
	running bool
	again   bool // start once more when the round in progress has ended
}

func (f *fetcher) start(name string) {
	f.again = f.running
	if f.running {
		return
	}
	f.running = true
	go func() {
		var a answer
		defer func() {
			a.panicked = recover() // the loop restores the terminal
			f.answers <- a
		}()
		a = request(f.ctx, f.client, name)
	}()
}

func (f *fetcher) wait() {
	if f.running {
		<-f.answers
	}
}

// request requests the fields that the table shows and, if name is not empty, all fields of
// that consumer.
func request(ctx context.Context, c client.Client, name string) answer {
	a := answer{name: name}
	if a.err = c.Decode(ctx, "/status?fields="+statustable.Fields, &a.status); a.err == nil && name != "" {
		var d web.ConsumerStatus
		if a.detailErr = c.Decode(ctx, "/status/"+url.PathEscape(name), &d); a.detailErr == nil {
			a.detail = &d
		} else if !listed(a.status, name) {
			a.detailErr = errors.New("the consumer was terminated; these are its last values")
		}
	}
	a.at = time.Now()
	return a
}

func listed(s web.Status, name string) bool {
	for i := range s.Consumers {
		if s.Consumers[i].Name == name {
			return true
		}
	}
	return false
}

func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	u.User = nil
	return u.String()
}
