package web

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"kcagent/agent/web/page"
)

// initialRows is the number of consumers that the page shows before its scripts run.
const initialRows = 100

func (a *API) servePage(w http.ResponseWriter, r *http.Request) {
	s := a.Status()
	text, err := page.Render(s.pageContent())
	if err != nil {
		replyError(w, r, http.StatusInternalServerError, err.Error())
		return
	}
	servePageFile(w, r, page.File{Content: text, MediaType: "text/html; charset=utf-8"})
}

// servePageAsset responds with a file that the page loads. The browser revalidates the file each
// time, so a page never mixes the files of two versions.
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

// pageContent returns what the page shows before its scripts run.
func (s *Status) pageContent() *page.Content {
	l := &page.Content{
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
	for _, state := range StatesByUrgency {
		if n := s.Summary[state]; n > 0 {
			l.Summary = append(l.Summary, page.Count{State: string(state), Count: n})
		}
	}
	consumers := slices.SortedFunc(slices.Values(s.Consumers), func(a, b ConsumerStatus) int { return ByUrgency(&a, &b) })
	for i := range consumers[:min(len(consumers), initialRows)] {
		l.Consumers = append(l.Consumers, consumers[i].pageRow())
	}
	return l
}

func (c *ConsumerStatus) pageRow() page.Consumer {
	l := page.Consumer{
		Name: c.Name, State: string(c.Status), Group: c.Group, Sink: c.Sink, Since: c.StatusSince,
		Lag: page.Unknown, LagTime: pageSpan(c.LagSeconds), CatchUp: pageSpan(c.CatchUpSeconds),
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

func pageSpan(s *float64) string {
	if s == nil {
		return page.Unknown
	}
	return page.Duration(time.Duration(*s * float64(time.Second)))
}
