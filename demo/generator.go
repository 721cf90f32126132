package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// generateInterval is the time between two batches of generated records.
const generateInterval = 20 * time.Millisecond

// generate produces rate records per second to the broker at addr until ctx ends. It
// returns the error of the broker; the end of ctx is not an error.
func generate(ctx context.Context, addr string, rate int) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return fmt.Errorf("create kafka client: %w", err)
	}
	defer client.Close()
	failed := make(chan error, 1)
	done := func(_ *kgo.Record, err error) {
		if err != nil {
			select {
			case failed <- err:
			default: // the first error is enough
			}
		}
	}
	tick := time.NewTicker(generateInterval)
	defer tick.Stop()
	start, produced := time.Now(), int64(0)
	first := start.UnixMicro() // so that numbers are not used again by the next demo
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("produce to embedded broker: %w", err)
		case <-tick.C:
		}
		due := int64(time.Since(start).Seconds() * float64(rate))
		produced = max(produced, due-int64(rate)) // no burst after the computer was suspended
		for ; produced < due && ctx.Err() == nil; produced++ {
			client.Produce(ctx, record(first, produced), done)
		}
	}
}

type order struct {
	ID       string    `json:"order_id"`
	Customer string    `json:"customer"`
	Items    []item    `json:"items"`
	Cents    int       `json:"total_cents"`
	Currency string    `json:"currency"`
	At       time.Time `json:"at"`
}

type item struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
	Cents    int    `json:"cents"`
}

type payment struct {
	ID     string    `json:"payment_id"`
	Order  string    `json:"order_id"`
	Method string    `json:"method"`
	Status string    `json:"status"`
	At     time.Time `json:"at"`
}

type event struct {
	Actor  string    `json:"actor"`
	Action string    `json:"action"`
	Object string    `json:"object"`
	At     time.Time `json:"at"`
}

// record returns the record number n; the numbers of orders and payments start at first. Of
// ten records six are orders, three are payments of them, and one is an event.
func record(first, n int64) *kgo.Record {
	at := time.Now().UTC().Truncate(time.Millisecond)
	orderID := func(n int64) string { return fmt.Sprintf("o-%d", first+n) }
	switch n % 10 {
	case 6, 7, 8:
		id := orderID(n - 6)
		return encode("payments", id, payment{
			fmt.Sprintf("p-%d", first+n), id, pick("card", "invoice", "paypal", "sepa"),
			pick("authorised", "captured", "captured", "declined"), at,
		})
	case 9:
		return encode("audit", "", event{
			fmt.Sprintf("agent-%02d", rand.IntN(40)), pick("order.viewed", "order.changed", "order.cancelled"), orderID(n - 5), at,
		})
	}
	o := order{ID: orderID(n), Customer: fmt.Sprintf("c-%05d", rand.IntN(20000)), Currency: "EUR", At: at}
	for range 1 + rand.IntN(3) {
		i := item{fmt.Sprintf("sku-%04d", rand.IntN(5000)), 1 + rand.IntN(4), 99 + 50*rand.IntN(400)}
		o.Items = append(o.Items, i)
		o.Cents += i.Quantity * i.Cents
	}
	return encode("orders", o.Customer, o)
}

func encode(topic, key string, value any) *kgo.Record {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // no value of this package's types can fail
	}
	r := &kgo.Record{Topic: topic, Value: text, Headers: []kgo.RecordHeader{{Key: "source", Value: []byte("kcagent-demo")}}}
	if key != "" {
		r.Key = []byte(key)
	}
	return r
}

func pick(words ...string) string { return words[rand.IntN(len(words))] }
