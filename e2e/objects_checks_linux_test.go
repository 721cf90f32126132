package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/s3test"
)

// slowUpload requires that an upload that takes long delays only its partition.
func (f *faultScene) slowUpload(t *testing.T) {
	t.Helper()
	release := make(chan struct{})
	defer close(release)
	f.slow.proxy.Set(s3test.On(puts, func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/0-") {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		return false
	}))
	f.slow.produce(t, 100)
	c := f.WaitConsumer("slow", "publish the other partition", func(c agenttest.Consumer) bool {
		return slices.ContainsFunc(c.Partitions, func(p agenttest.Partition) bool { return p.Partition == 1 && p.CommittedOffset == 200 })
	})
	if c.Status != "RUNNING" || c.Committed() != 300 || len(c.RecentErrors) > 0 {
		t.Errorf("while an upload is slow, the consumer is %s, has committed %d, and has the errors %v", c.Status, c.Committed(), c.RecentErrors)
	}
}

// wantErrors requires the error of each fault, also from validate --online.
func (f *faultScene) wantErrors(t *testing.T) {
	t.Helper()
	for _, fault := range storeFaults {
		fault.wantError(t, f.Agent, f.faulty[fault.name])
	}
}

// wantOthers requires that the other consumers continue, and that validate --online names what the
// credentials lack.
func (f *faultScene) wantOthers(t *testing.T) {
	t.Helper()
	f.safe.produce(t, 100)
	out, err := validateOnline(t, f.Path)
	for _, name := range []string{"bucket", "denied", "expired", "rotated"} {
		if err == nil || !strings.Contains(out, name+": ") || !strings.Contains(out, faultOf(name).want) {
			t.Errorf("validate --online: %v\n%s\nwant the error of %s", err, out, name)
		}
	}
	f.waitCommitted(t, f.Agent, f.safe.entry, f.safe.total())
	f.waitCommitted(t, f.Agent, f.file, f.safe.total())
}

// wantHealed requires that all consumers publish everything: as always, and by a pause.
func (f *faultScene) wantHealed(t *testing.T) {
	t.Helper()
	f.states["denied"] = ""
	f.Write(f.config())
	for _, l := range f.lakes {
		f.WaitState(l.name, "RUNNING")
		if l.partitions > 1 {
			f.waitCommitted(t, f.Agent, l.entry, l.total())
			continue
		}
		f.WaitConsumer(l.name, "read everything", func(c agenttest.Consumer) bool {
			return slices.ContainsFunc(c.Partitions, func(p agenttest.Partition) bool { return p.Partition == 0 && p.NextOffset == l.total() })
		})
	}
	for _, l := range f.lakes {
		f.states[l.name] = "paused"
	}
	f.Write(f.config())
	for _, l := range f.lakes {
		f.WaitState(l.name, "PAUSED")
		l.wantExact(t)
	}
}

// wantPending edits a consumer so that its objects would go to stores that it cannot use. The
// pre-check names the cause, leaves no object, and the consumer continues.
func (f *faultScene) wantPending(t *testing.T) {
	t.Helper()
	l := f.slow
	was, objects, bucket := identify(t, f.Consumer(l.name)), l.objects, l.bucket
	l.proxy.Set(s3test.On(puts, func(w http.ResponseWriter, r *http.Request) bool {
		return strings.Contains(r.URL.Path, "/denied/") && s3test.Respond(http.StatusForbidden, "AccessDenied", "Access Denied")(w, r)
	}))
	for _, c := range []struct {
		edit func()
		want string
	}{
		{func() { l.bucket = "missing"; l.configure(lakeRotation) }, "bucket missing does not exist; create it, or correct url"},
		{func() { l.objects = strings.Replace(objects, "/"+l.name+"'", "/denied'", 1) }, faultOf("denied").want},
		{func() {
			l.objects = strings.Replace(objects, "secret_key_file: "+l.folder+"/secret_key", "secret_key_file: "+l.folder+"/token", 1)
		}, faultOf("rotated").want},
	} {
		c.edit()
		f.Write(f.config())
		now := f.WaitConsumer(l.name, "report "+c.want, func(now agenttest.Consumer) bool {
			return now.PendingChange != nil && strings.Contains(now.PendingChange.Error, c.want)
		})
		if now.Status != "RUNNING" {
			t.Errorf("the consumer is %s while %s", now.Status, now.PendingChange.Error)
		}
		l.objects, l.bucket = objects, bucket
	}
	f.Write(f.config())
	f.WaitConsumer(l.name, "have no pending change", func(c agenttest.Consumer) bool { return c.PendingChange == nil })
	wantSame(t, f.Agent, l.name, was)
	for o := range l.server.Client.ListObjectsIter(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true}) {
		if strings.Contains(o.Key, "probe") {
			t.Errorf("object %s is left", o.Key)
		}
	}
}

// faultOf returns the fault of a name; an empty one if there is none.
func faultOf(name string) storeFault {
	for _, f := range storeFaults {
		if f.name == name {
			return f
		}
	}
	return storeFault{}
}

// wantError waits until the consumer of the fault shows its error everywhere.
func (f storeFault) wantError(t *testing.T, a *agenttest.Agent, l *lake) {
	t.Helper()
	c := a.WaitConsumer(f.name, "show "+f.want, func(c agenttest.Consumer) bool { return c.Status == "ERROR" && strings.Contains(c.Error(), f.want) })
	texts := make(map[string]bool)
	for _, e := range c.RecentErrors {
		texts[e.Text] = true
	}
	if len(texts) > int(l.partitions) {
		t.Errorf("%s: the errors of its %d partitions are %v", f.name, l.partitions, texts)
	}
	m := a.Metrics()
	if v, _ := m.Value("kcagent_consumer_status", "consumer="+f.name, "status=ERROR"); v != 1 {
		t.Errorf("%s: the metric of its status is %v", f.name, v)
	}
	if v, _ := m.Value("kcagent_consumer_sink_errors_total", "consumer="+f.name); v == 0 {
		t.Errorf("%s: no error of the sink is counted", f.name)
	}
	logged, again := 0, 0
	for line := range strings.Lines(a.Log()) {
		switch {
		case !strings.Contains(line, "consumer="+f.name+" "):
		case strings.Contains(line, "to=ERROR") && strings.Contains(line, f.want):
			logged++
		case strings.Contains(line, "consumer still fails"):
			again++
		}
	}
	if logged != 1 || again > 0 {
		t.Errorf("%s: the log has its error %d times, and %d times again", f.name, logged, again)
	}
}
