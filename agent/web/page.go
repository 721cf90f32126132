package web

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/web/page"
)

// firstLook is how many consumers the page shows before its scripts run.
const firstLook = 100

// byTrouble is the order in which the page sorts states. page/assets/columns.js has it, too.
var byTrouble = []consumer.State{
	consumer.Failing, consumer.Stopping, consumer.Starting, consumer.Running, consumer.Paused, consumer.Created,
}

func (a *API) servePage(w http.ResponseWriter, r *http.Request) {
	s := a.Status()
	text, err := page.Render(s.look())
	if err != nil {
		replyError(w, r, http.StatusInternalServerError, err.Error())
		return
	}
	servePageFile(w, r, page.File{Content: text, MediaType: "text/html; charset=utf-8"})
}

// servePageAsset replies with a file that the page loads. The browser asks each time whether
// the file has changed, so a page never mixes the files of two versions.
func servePageAsset(w http.ResponseWriter, r *http.Request) {
	file, ok := page.Asset(r.PathValue("file"))
	if !ok {
		replyError(w, r, http.StatusNotFound, "page not found: "+r.URL.Path)
		return
	}
	servePageFile(w, r, file)
}

func servePageFile(w http.ResponseWriter, r *http.Request, f page.File) {
	w.Header().Set("Content-Security-Policy", page.Policy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	replyBytes(w, r, http.StatusOK, f.MediaType, f.Content)
}

// look returns the part of the status that the page shows at first.
func (s *Status) look() *page.Look {
	l := &page.Look{
		Version: s.Agent.Version, Host: s.Agent.Hostname, At: time.Now(), Total: len(s.Consumers),
		Config: page.Config{Path: s.Config.Path, State: s.Config.State, AppliedAt: s.Config.AppliedAt},
	}
	for _, p := range s.Config.Problems {
		place := p.File
		if p.Line > 0 {
			place += fmt.Sprintf(":%d:%d", p.Line, p.Column)
		}
		l.Config.Problems = append(l.Config.Problems, page.Problem{Place: place, Path: p.Path, Message: p.Message, Hint: p.Hint})
	}
	for _, state := range byTrouble {
		if n := s.Summary[state]; n > 0 {
			l.Summary = append(l.Summary, page.Count{State: string(state), Count: n})
		}
	}
	consumers := slices.SortedFunc(slices.Values(s.Consumers), func(a, b ConsumerStatus) int {
		return cmp.Or(cmp.Compare(a.trouble(), b.trouble()), cmp.Compare(a.Name, b.Name))
	})
	for i := range consumers[:min(len(consumers), firstLook)] {
		l.Consumers = append(l.Consumers, consumers[i].look())
	}
	return l
}

// trouble is the rank of a consumer when trouble comes first. A failed pre-check of a
// pending change ranks directly after ERROR.
func (c *ConsumerStatus) trouble() int {
	rank := 2 * slices.Index(byTrouble, c.Status)
	if p := c.PendingChange; p != nil && p.Error != nil {
		rank = min(rank, 1)
	}
	return rank
}

func (c *ConsumerStatus) look() page.Consumer {
	l := page.Consumer{
		Name: c.Name, State: string(c.Status), Group: c.Group, Sink: c.Sink, Since: c.StatusSince,
		Lag: page.Unknown, LagTime: lookSpan(c.LagSeconds), CatchUp: lookSpan(c.CatchUpSeconds),
		Rate: strconv.FormatFloat(c.RecordsPerSecond, 'f', 1, 64), Records: strconv.FormatInt(c.RecordsTotal, 10),
	}
	if c.Lag != nil {
		l.Lag = strconv.FormatInt(*c.Lag, 10)
	}
	switch p := c.PendingChange; {
	case c.LastError != nil:
		l.Note = *c.LastError
	case p != nil:
		l.Note = fmt.Sprintf("%s of %s is pending: ", p.Action, strings.Join(p.Fields, ", "))
		if p.Error != nil {
			l.Note += *p.Error
		} else {
			l.Note += "the pre-check is in progress"
		}
	}
	return l
}

func lookSpan(s *float64) string {
	if s == nil {
		return page.Unknown
	}
	return page.Duration(time.Duration(*s * float64(time.Second)))
}
