package group

import (
	"testing"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// TestCommittedOffsetsAreStable: the coordinator is asked for offsets without commits in progress,
// if it is new enough to know them.
func TestCommittedOffsetsAreStable(t *testing.T) {
	for name, c := range map[string]struct {
		opts   []kfake.Opt
		stable bool
	}{
		"new": {nil, true},
		"old": {[]kfake.Opt{kfake.MaxVersions(kversion.V2_4_0())}, false},
	} {
		t.Run(name, func(t *testing.T) {
			broker, err := kfake.NewCluster(append(c.opts, kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(broker.Close)
			var stable []bool
			broker.ControlKey(int16(kmsg.OffsetFetch), func(k kmsg.Request) (kmsg.Response, error, bool) {
				broker.KeepControl()
				stable = append(stable, k.(*kmsg.OffsetFetchRequest).RequireStable)
				return nil, nil, false
			})
			client, _, _ := joining(t, broker, nil, "")
			// The broker has no such group, and says so.
			if _, err := (Offsets{Client: client, Group: "kcagent-c"}).Fetch(map[string][]int32{"t": {0}}); err != sarama.ErrGroupIDNotFound {
				t.Error(err)
			}
			if len(stable) != 1 || stable[0] != c.stable {
				t.Errorf("the requests ask for stable offsets: %v", stable)
			}
		})
	}
}
