// Package outage decides which causes of a condition that lasts are logged: [CauseLog] for
// one condition, such as a consumer in ERROR, and [Log] once for all consumers of a
// cluster. Each cause is logged once, and a reminder every few minutes. So a cause must have
// the same text in each retry: no ephemeral ports, measured durations or random order.
package outage
