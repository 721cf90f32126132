package kafka

import (
	"context"
	"maps"
	"sync"

	"github.com/IBM/sarama"

	"kcagent/agent/kafka/login"
	"kcagent/config"
	"kcagent/fetch"
)

// A Cluster is a Kafka cluster in use: its fetcher, and what its consumers share besides.
type Cluster struct {
	*fetch.Fetcher
	Reach     config.Cluster // how it is reached; see [ReachOf]
	Brokers   string         // identifies the brokers in a checkpoint; see hashBrokers
	users     int            // guarded by Clusters.mu
	end       context.CancelFunc
	Admission Admission // for members that join for the first time
	breakers  *login.Breakers

	mu      sync.Mutex
	current *login.Credentials // in use; nil until they could be read
}

// Joining returns how many members admission has let in whose first join is in progress.
func (c *Cluster) Joining() int { return len(c.Admission) }

// ReachOf returns c without the settings that can be changed in place. Consumers for which
// it is equal share a cluster.
func ReachOf(c config.Cluster) config.Cluster {
	c.Fetch, c.Rack = config.Fetch{}, ""
	return c
}

// Credentials returns the credentials that all connections to the cluster use. The first
// valid ones stay in use until ReloadCredentials, so a file that becomes invalid does not
// break connections that are opened again.
func (c *Cluster) Credentials() (*login.Credentials, error) {
	if creds := c.credentialsInUse(); creds != nil {
		return creds, nil
	}
	creds, err := login.ReadCredentials(c.Reach)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil {
		creds.Breaker = c.breakers.Get(c.Reach, creds.Fingerprints)
		c.current = creds
	}
	return c.current, nil
}

// credentialsInUse returns the credentials that connections use; nil until they could be read.
func (c *Cluster) credentialsInUse() *login.Credentials {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// ReloadCredentials reads the credentials again. If they have changed, the fetcher
// reconnects with them, each connection after its request in flight.
func (c *Cluster) ReloadCredentials() (*login.Credentials, error) {
	creds, err := login.ReadCredentials(c.Reach)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	former := c.current
	if former != nil && maps.Equal(former.Fingerprints, creds.Fingerprints) {
		c.mu.Unlock()
		return former, nil
	}
	creds.Breaker = c.breakers.Get(c.Reach, creds.Fingerprints)
	creds.Breaker.Replace()
	c.current = creds
	c.mu.Unlock()
	if former != nil {
		c.breakers.Put(former.Breaker)
	}
	c.Reconnect()
	return creds, nil
}

// RecordError records an error of a connection to the cluster. Credentials that were
// rejected once are rejected on every new connection, even if older connections live on.
//
// The fetcher calls it for each connection that it cannot open. Consumers do not, because they report
// a repeated error once. A token that is too recent to be discarded at its first rejection is
// discarded at the second one, so it would never be replaced if that were not recorded.
func (c *Cluster) RecordError(err error) {
	if creds := c.credentialsInUse(); creds != nil {
		creds.RecordClusterError(err)
	}
}

// RecordSuccess records that the cluster has answered requests.
func (c *Cluster) RecordSuccess() {
	if creds := c.credentialsInUse(); creds != nil {
		creds.Breaker.RecordSuccess()
	}
}

// Config returns the settings with which the fetcher opens a connection.
func (c *Cluster) Config() (*sarama.Config, error) {
	creds, err := c.Credentials()
	if err == nil {
		err = creds.Breaker.Allow()
	}
	if err != nil {
		return nil, err
	}
	return SaramaConfig("kcagent", c.Reach, creds)
}

// FetchSettings returns the settings that can be changed while the fetcher runs.
func FetchSettings(c config.Cluster) fetch.Settings {
	f := c.Fetch
	return fetch.Settings{Lanes: f.Lanes, MaxBytes: int(f.MaxBytes), MaxWait: f.MaxWait, Rack: c.Rack}
}
