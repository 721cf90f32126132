package agent

import (
	"context"
	"fmt"

	"github.com/IBM/sarama"

	"kcagent/config"
)

// connect builds client and group; nothing is dialled before they are used.
func (c *consumer) connect(ctx context.Context, spec config.Consumer) (*member, error) {
	m := &member{consumer: c, spec: spec, cluster: c.kafka.acquire(spec)}
	if err := m.open(ctx); err != nil {
		c.kafka.release(m.cluster)
		return nil, err
	}
	return m, nil
}

func (m *member) open(ctx context.Context) error {
	read := m.cluster.credentials
	select {
	case <-m.renew:
		read = m.cluster.reloadCredentials
	default:
	}
	creds, err := read()
	if err != nil {
		return err
	}
	conf, err := groupConfig(m.spec, creds, m.net, m.cluster.Fetcher)
	if err != nil {
		return err
	}
	m.prints.Store(&creds.fingerprints)
	// The group keeps the settings that it is made with, for its heartbeats. What it
	// asks before a generation takes those of the client, and must not go on for
	// minutes without a word.
	patient := *conf
	patient.Metadata.Retry.Max = heartbeatRetries
	m.client = newGroupClient(ctx, &patient, creds, m.spec.Group, m.net, m.cluster.Fetcher)
	if m.group, err = sarama.NewConsumerGroupFromClient(m.spec.Group, m.client); err != nil {
		return fmt.Errorf("join group %s: %w", m.spec.Group, err)
	}
	m.client.conf, m.client.dial = conf, conf
	return nil
}

// keepAuthenticated reconnects whenever the agent has found that new credentials are
// accepted, until ctx ends. The consumer keeps its membership.
func (m *member) keepAuthenticated(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.renew:
		}
		creds, err := m.cluster.reloadCredentials()
		var conf *sarama.Config
		if err == nil {
			conf, err = groupConfig(m.spec, creds, m.net, m.cluster.Fetcher)
		}
		if err != nil { // changed again since: there will be another order
			m.log.Warn("new credentials cannot be used", "error", err)
			continue
		}
		m.client.reconnect(conf, creds)
		m.prints.Store(&creds.fingerprints)
		m.log.Info("connects anew with changed credentials", "cluster", clusterName(&m.spec))
	}
}
