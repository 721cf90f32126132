package kafka

import (
	"fmt"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"

	"kcagent/config"
)

// scramHashes are those of the mechanisms that are SCRAM (RFC 5802, RFC 7677).
var scramHashes = map[config.Mechanism]scram.HashGeneratorFcn{
	config.ScramSHA256: scram.SHA256,
	config.ScramSHA512: scram.SHA512,
}

// A scramClient holds one conversation; sarama makes one for each connection.
type scramClient struct {
	hash         scram.HashGeneratorFcn
	conversation *scram.ClientConversation
}

// newScramClient returns what sarama makes them with; nil if the mechanism is
// none of SCRAM's.
func newScramClient(m config.Mechanism) func() sarama.SCRAMClient {
	hash, ok := scramHashes[m]
	if !ok {
		return nil
	}
	return func() sarama.SCRAMClient { return &scramClient{hash: hash} }
}

// Begin implements sarama.SCRAMClient. Kafka takes user and password as they are,
// so the RFC's preparation of texts must be left out: it refuses some and changes
// others.
func (c *scramClient) Begin(user, password, authzID string) error {
	client, err := c.hash.NewClientUnprepped(user, password, authzID)
	if err != nil {
		return fmt.Errorf("begin SCRAM: %w", err)
	}
	c.conversation = client.NewConversation()
	return nil
}

// Step implements sarama.SCRAMClient.
func (c *scramClient) Step(challenge string) (string, error) { return c.conversation.Step(challenge) }

// Done implements sarama.SCRAMClient.
func (c *scramClient) Done() bool { return c.conversation.Done() }
