package login

import (
	"fmt"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"

	"kcagent/config"
)

// scramHashes are the hash functions of the SCRAM mechanisms (RFC 5802, RFC 7677).
var scramHashes = map[config.Mechanism]scram.HashGeneratorFcn{
	config.ScramSHA256: scram.SHA256,
	config.ScramSHA512: scram.SHA512,
}

// A scramClient is the client side of one SCRAM exchange. sarama creates one for each
// connection.
type scramClient struct {
	hash         scram.HashGeneratorFcn
	conversation *scram.ClientConversation
}

// newScramClient returns the function with which sarama creates them; nil if the mechanism
// is not SCRAM.
func newScramClient(m config.Mechanism) func() sarama.SCRAMClient {
	hash, ok := scramHashes[m]
	if !ok {
		return nil
	}
	return func() sarama.SCRAMClient { return &scramClient{hash: hash} }
}

// Begin implements sarama.SCRAMClient. Kafka uses the user and the password unchanged, so
// SASLprep, which rejects some texts and changes others, must not be applied.
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
