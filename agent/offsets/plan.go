package offsets

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"kcagent/leader"
	"kcagent/sink"
)

// planVersion is the version of the plans that this agent writes and completes.
const planVersion = "1"

// planText returns the keys of a plan:
//
//	plan=1 plan.first=… plan.next=… plan.epoch=… plan.records=… plan.SETTING=…
//
// The nonce of the plan is that of the metadata.
func planText(p *sink.Plan) string {
	if p == nil {
		return ""
	}
	var b strings.Builder
	addKey(&b, "plan", planVersion)
	addKey(&b, "plan.first", strconv.FormatInt(p.First, 10))
	addKey(&b, "plan.next", strconv.FormatInt(p.Next, 10))
	if p.Epoch.Known() {
		addKey(&b, "plan.epoch", strconv.Itoa(int(p.Epoch.Kafka())))
	}
	addKey(&b, "plan.records", strconv.FormatInt(p.Records, 10))
	for _, key := range slices.Sorted(maps.Keys(p.Settings)) {
		addKey(&b, "plan."+key, p.Settings[key])
	}
	return b.String()
}

// parsePlan reads the keys of planText, without the prefix; version is that of "plan". bad says
// why an agent of this version cannot complete the plan.
func parsePlan(version, nonce string, keys map[string]string) (p *sink.Plan, bad string) {
	if version != planVersion {
		return nil, fmt.Sprintf("version %q", version)
	}
	p = &sink.Plan{Nonce: nonce, Settings: make(map[string]string)}
	numbers := map[string]*int64{"first": &p.First, "next": &p.Next, "records": &p.Records}
	for key, value := range keys {
		switch to := numbers[key]; {
		case to != nil:
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 0 {
				return nil, fmt.Sprintf("plan.%s=%q", key, value)
			}
			*to = n
			delete(numbers, key)
		case key == "epoch":
			n, err := strconv.ParseInt(value, 10, 32)
			if err != nil || n < 0 {
				return nil, fmt.Sprintf("plan.%s=%q", key, value)
			}
			p.Epoch = leader.NewEpoch(int32(n))
		default:
			p.Settings[key] = value
		}
	}
	if len(numbers) > 0 || p.Next <= p.First || nonce == "" {
		return nil, "a key is missing"
	}
	return p, ""
}
