package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"kcagent/agent/web/fields"
)

// The fields that a client can select.
var (
	statusFields   = fields.Of[Status]()
	consumerFields = fields.Of[ConsumerStatus]()

	summaryFields, _ = statusFields.Select([]string{"config", "summary"})
)

// A query is which part of a response a client requests.
type query struct {
	fields        *fields.Selection
	compact       bool // fields were selected: the client is a program
	offset, limit int  // of the list of consumers; limit is -1 for all
}

// everything is the query of a request without parameters.
var everything = query{fields: fields.All, limit: -1}

// parseQuery reads the parameters fields, limit and offset. It ignores others, as servers
// do. Its error says what to write instead.
func parseQuery(r *http.Request, of *fields.Type) (query, error) {
	q := everything
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, errors.New("invalid query: escape it as a URL, such as /status?fields=summary,consumers.name")
	}
	if lists := values["fields"]; len(lists) > 0 {
		q.compact = true
		if q.fields, err = of.Select(strings.Split(strings.Join(lists, ","), ",")); err != nil {
			return q, err
		}
	}
	for name, to := range map[string]*int{"limit": &q.limit, "offset": &q.offset} {
		if !values.Has(name) {
			continue
		}
		if *to, err = strconv.Atoi(values.Get(name)); err != nil || *to < 0 {
			return q, fmt.Errorf("invalid %s %s: use a number of consumers such as 100", name, strconv.Quote(values.Get(name)))
		}
	}
	return q, nil
}

// page returns the part of a list of n consumers that is requested, from and below.
func (q *query) page(n int) (from, to int) {
	from, to = min(q.offset, n), n
	if q.limit >= 0 {
		to = from + min(q.limit, n-from)
	}
	return from, to
}
