package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// hashAddresses identifies a list of brokers, in any order, in a checkpoint.
func hashAddresses(brokers []string) string {
	sum := sha256.Sum256([]byte(pinKey(brokers)))
	return hex.EncodeToString(sum[:8])
}

// A clusterReplacedError reports that the brokers belong to another cluster than the one
// that a file was written from.
type clusterReplacedError struct {
	brokers  []string
	was, now string // ids of the clusters
}

func (e *clusterReplacedError) Error() string {
	return fmt.Sprintf("brokers %s belong to cluster %s now, and the file was written from cluster %s: restore the former cluster; "+
		"to read the new one, edit brokers to name it by other addresses, or stop the consumer and move the file and its +checkpoint away",
		strings.Join(e.brokers, ","), e.now, e.was)
}
