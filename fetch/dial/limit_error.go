package dial

import "fmt"

// A ConnectionLimitError reports that a broker closed a connection before it answered, although the cluster
// has answered others. So the cause is neither TLS nor SASL.
type ConnectionLimitError struct {
	Broker  string // its address
	Open    int    // connections of this agent to it; 0 if that is not known to be the cause
	Evicted bool   // the agent closed the connection, in favour of one that fetches
	Err     error
}

func (e *ConnectionLimitError) Error() string {
	what := "broker " + e.Broker + " closed the connection before answering, but the cluster has answered others"
	switch {
	case e.Open == 0:
		return what + " before: it may be restarting, or clients at this address may have reached its limit max.connections.per.ip"
	case e.Evicted:
		what = "the connection to broker " + e.Broker + " was closed by the agent, which needed one for fetching"
	}
	return fmt.Sprintf("%s: the broker's limit max.connections.per.ip may be reached (this agent has %d connections to it); "+
		"raise the limit or run fewer consumers per agent", what, e.Open)
}

// Unwrap returns Err.
func (e *ConnectionLimitError) Unwrap() error { return e.Err }
