package agent

import (
	"context"
	"maps"
	"sync"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/fetch"
)

// A cluster is a Kafka cluster in use: its fetcher, and what its consumers share besides.
type cluster struct {
	*fetch.Fetcher
	reach     config.Cluster // how it is reached; see reachOf
	brokers   string         // identifies the brokers; see hashBrokers
	users     int            // guarded by clusters.mu
	end       context.CancelFunc
	admission admission // for members that join for the first time
	breakers  *loginBreakers

	mu      sync.Mutex
	current *credentials // in use; nil until they could be read
}

// joining returns how many members are joining for the first time, of those that
// admission counts.
func (c *cluster) joining() int { return len(c.admission) }

// reachOf returns c without the settings that can be changed in place. Consumers for which
// it is equal share a cluster.
func reachOf(c config.Cluster) config.Cluster {
	c.Fetch, c.Rack = config.Fetch{}, ""
	return c
}

// credentials returns those that all connections to the cluster use: the first that could
// be read, until reloadCredentials. So a file that becomes invalid does not break
// connections that are opened again.
func (c *cluster) credentials() (*credentials, error) {
	if creds := c.credentialsInUse(); creds != nil {
		return creds, nil
	}
	creds, err := readCredentials(c.reach)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil {
		creds.breaker = c.breakers.get(c.reach, creds.fingerprints)
		c.current = creds
	}
	return c.current, nil
}

// credentialsInUse returns the credentials that connections use; nil until they could be read.
func (c *cluster) credentialsInUse() *credentials {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// reloadCredentials reads the credentials again. If they have changed, the fetcher
// reconnects with them, each connection after its request in flight.
func (c *cluster) reloadCredentials() (*credentials, error) {
	creds, err := readCredentials(c.reach)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	former := c.current
	if former != nil && maps.Equal(former.fingerprints, creds.fingerprints) {
		c.mu.Unlock()
		return former, nil
	}
	creds.breaker = c.breakers.get(c.reach, creds.fingerprints)
	creds.breaker.replace()
	c.current = creds
	c.mu.Unlock()
	if former != nil {
		c.breakers.put(former.breaker)
	}
	c.Reconnect()
	return creds, nil
}

// recordError records an error of a connection to the cluster. Credentials that were
// rejected once are rejected on every new connection, even if older connections live on.
func (c *cluster) recordError(err error) {
	if creds := c.credentialsInUse(); creds != nil {
		creds.recordError(err)
	}
}

// recordSuccess records that the cluster has answered requests.
func (c *cluster) recordSuccess() {
	if creds := c.credentialsInUse(); creds != nil {
		creds.breaker.recordSuccess()
	}
}

// config returns the settings with which the fetcher opens a connection.
func (c *cluster) config() (*sarama.Config, error) {
	creds, err := c.credentials()
	if err == nil {
		err = creds.breaker.allow()
	}
	if err != nil {
		return nil, err
	}
	return saramaConfig("kcagent", c.reach, creds)
}

// fetchSettings returns the settings that can be changed while the fetcher runs.
func fetchSettings(c config.Cluster) fetch.Settings {
	f := c.Fetch
	return fetch.Settings{Lanes: f.Lanes, MaxBytes: int(f.MaxBytes), MaxWait: f.MaxWait, Rack: c.Rack}
}
