package agent

import (
	"strconv"
	"strings"
)

// A note is what an agent leaves beside an offset that it commits, as metadata.
type note struct {
	owner string // the account of the sink that holds what is below the offset, see place; "" if it keeps none
	began int32  // with how many partitions the group began to read the topic, see beginnings; -1 if that is not known
}

const (
	noteOfAgent = "kcagent"
	noteBegan   = " began="
)

// String is the metadata.
func (n note) String() string {
	if n.began < 0 {
		return n.owner
	}
	owner := n.owner
	if owner == "" {
		owner = noteOfAgent
	}
	return owner + noteBegan + strconv.Itoa(int(n.began))
}

// parseNote reads metadata. What others have left there is an owner that is nobody's
// account.
func parseNote(metadata string) note {
	owner, text, found := strings.Cut(metadata, noteBegan)
	began, err := strconv.ParseInt(text, 10, 32)
	if !found || err != nil || began < 0 {
		return note{metadata, -1}
	}
	if owner == noteOfAgent {
		owner = ""
	}
	return note{owner, int32(began)}
}
