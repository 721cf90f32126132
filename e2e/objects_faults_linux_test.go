package e2e

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/s3test"
	"kcagent/e2e/wait"
)

// A storeFault is what happens to the store of a consumer.
type storeFault struct {
	name       string
	begin, end func(t *testing.T, l *lake)
	want       string // in the error
	first      bool   // the fault begins before the agent starts
}

// respond returns a begin that responds to requests that match.
func respond(match func(r *http.Request) bool, f s3test.Fault) func(*testing.T, *lake) {
	return func(_ *testing.T, l *lake) { l.proxy.Set(s3test.On(match, f)) }
}

func every(*http.Request) bool    { return true }
func puts(r *http.Request) bool   { return r.Method == http.MethodPut }
func works(_ *testing.T, l *lake) { l.proxy.Set(nil) }

// skewed responds as a store whose clock is ahead.
func skewed(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("Date", time.Now().Add(20*time.Minute).UTC().Format(http.TimeFormat))
	return s3test.Respond(http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")(w, r)
}

// withToken returns a fault of a store that accepts one session token, which the server behind it
// rejects.
func withToken(valid string) s3test.Fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("X-Amz-Security-Token") != valid {
			return s3test.Respond(http.StatusBadRequest, "ExpiredToken", "The provided token has expired.")(w, r)
		}
		r.Header.Del("X-Amz-Security-Token")
		return false
	}
}

var storeFaults = []storeFault{
	{
		name: "away", want: "connection refused",
		begin: func(_ *testing.T, l *lake) { l.proxy.Leave() },
		end:   func(t *testing.T, l *lake) { l.proxy.Return(t) },
	},
	{
		name: "throttled", want: "the store limits the rate of requests", end: works,
		begin: respond(every, s3test.Respond(http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")),
	},
	{name: "reset", want: " closed the connection", begin: respond(puts, s3test.Reset), end: works},
	{
		name: "completion", want: "the store responds with InternalError: We encountered an internal error.", end: works, first: true,
		begin: respond(s3test.Completion, s3test.Respond(http.StatusOK, "InternalError", "We encountered an internal error.")),
	},
	{
		name: "expired", want: "the credentials have expired; renew credentials.access_key_file and credentials.secret_key_file",
		begin: func(_ *testing.T, l *lake) { l.proxy.Set(withToken("renewed")) },
		end:   func(t *testing.T, l *lake) { l.credentials(t, l.server.AccessKey, l.server.SecretKey, "renewed") },
	},
	{
		name: "rotated", want: "the secret access key does not match the access key; check credentials.access_key_file and credentials.secret_key_file",
		begin: func(t *testing.T, l *lake) { l.credentials(t, l.server.AccessKey, "outdated", "") },
		end:   func(t *testing.T, l *lake) { l.credentials(t, l.server.AccessKey, l.server.SecretKey, "") },
	},
	{name: "skewed", want: "the clock of this host is 20 minutes behind that of the store; correct the clock", begin: respond(every, skewed), end: works},
	{
		name: "bucket", want: "bucket later does not exist; create it, or correct url", first: true,
		begin: func(_ *testing.T, l *lake) { l.bucket = "later" },
		end: func(t *testing.T, l *lake) {
			if err := l.server.Client.MakeBucket(t.Context(), l.bucket, minio.MakeBucketOptions{}); err != nil {
				t.Fatal(err)
			}
		},
	},
	{
		name: "denied", want: "access denied; grant s3:PutObject to the owner of credentials.access_key_file and credentials.secret_key_file", end: works,
		begin: respond(puts, s3test.Respond(http.StatusForbidden, "AccessDenied", "Access Denied")),
	},
	{
		name: "full", want: ": no space left on device; free disk space, the records stay in Kafka",
		begin: func(t *testing.T, l *lake) {
			f, err := os.Create(filepath.Join(l.folder, "filler"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for err == nil {
				_, err = f.Write(make([]byte, 4096))
			}
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
		},
		end: func(t *testing.T, l *lake) {
			if err := os.Remove(filepath.Join(l.folder, "filler")); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		},
	},
}

// lakeOf returns the lake of a fault.
func (f storeFault) lakeOf(t *testing.T, s *scene, server *s3test.Server) *lake {
	t.Helper()
	l := s.newLake(t, server, f.name)
	switch f.name {
	case "completion": // an upload in parts
		l.large()
	case "expired":
		l.proxy.Set(withToken("none"))
		l.objects = strings.Replace(l.objects, "credentials: {", "credentials: {session_token_file: "+l.folder+"/token, ", 1)
	case "full":
		l.folder = mountDisk(t, l.folder, "size=1m")
		l.credentials(t, server.AccessKey, server.SecretKey, "")
		l.configure(lakeRotation)
	}
	if f.first {
		f.begin(t, l)
	}
	if f.name == "bucket" {
		l.configure(lakeRotation)
	}
	return l
}

// A faultScene is the agent of TestStoreFaults with its consumers.
type faultScene struct {
	*scene
	*agenttest.Agent
	lakes  []*lake // all
	faulty map[string]*lake
	// safe has no fault, uploads of slow take long, and the store of hung does not respond while it
	// stops.
	safe, slow, hung *lake
	file             entry             // reads the topic of safe
	states           map[string]string // of the entries
}

func newFaultScene(t *testing.T) *faultScene {
	t.Helper()
	s, server := newScene(t), s3test.Start(t)
	f := &faultScene{
		scene: s, faulty: make(map[string]*lake), states: make(map[string]string),
		safe: s.newLake(t, server, "safe"), slow: s.newLake(t, server, "slow"), hung: s.newLake(t, server, "hung"),
	}
	f.hung.large()
	f.file = s.entry("file", f.safe.topic)
	f.lakes = []*lake{f.safe, f.slow, f.hung}
	for _, fault := range storeFaults {
		l := fault.lakeOf(t, s, server)
		f.faulty[fault.name], f.lakes = l, append(f.lakes, l)
	}
	return f
}

// config returns the present configuration.
func (f *faultScene) config() string {
	entries := []entry{f.file}
	for _, l := range f.lakes {
		entries = append(entries, l.withState(f.states[l.name]))
	}
	return f.scene.config(entries...)
}

// TestStoreFaults: a consumer whose store has a fault shows ERROR with the cause and the next step,
// always in the same words, and continues by itself once the fault is over. Each record is in exactly
// one object then. Other consumers are not touched.
func TestStoreFaults(t *testing.T) {
	t.Parallel()
	f := newFaultScene(t)
	f.Agent = agenttest.Start(t, agenttest.Options{Config: f.config()})
	parts := hangUploads(f.hung)
	for _, l := range f.lakes {
		if l.partitions == 1 {
			l.produce(t, 40)
		} else {
			l.produce(t, 100)
		}
	}
	for _, l := range f.lakes {
		if l.partitions > 1 && !faultOf(l.name).first {
			f.waitCommitted(t, f.Agent, l.entry, l.total())
		}
	}
	waitClosed(t, parts)
	f.states["hung"] = "stopped"
	f.Write(f.config())
	was, wasFile := identify(t, f.Consumer("safe")), identify(t, f.Consumer("file"))
	f.slowUpload(t)
	f.wantPending(t)

	for _, fault := range storeFaults {
		if !fault.first {
			fault.begin(t, f.faulty[fault.name])
			f.faulty[fault.name].produce(t, 100)
		}
	}
	f.WaitState("denied", "ERROR")
	f.states["denied"] = "paused"
	f.Write(f.config())
	f.wantErrors(t)
	f.wantOthers(t)
	f.wantErrors(t) // still, and in the same words

	for _, fault := range storeFaults {
		fault.end(t, f.faulty[fault.name])
	}
	f.WaitState("denied", "PAUSED")
	f.WaitState("hung", "CREATED")
	if z := f.Threads().Zombies; len(z) > 0 || strings.Contains(f.Log(), "zombie") {
		t.Errorf("%+v are zombies", z)
	}
	f.hung.proxy.Set(nil)
	f.states["hung"] = ""
	f.wantHealed(t)
	wantSame(t, f.Agent, "safe", was)
	wantSame(t, f.Agent, "file", wasFile)
	// Without the store, an agent that has published everything ends as always.
	for _, l := range f.lakes {
		l.proxy.Leave()
	}
	stopAgent(t, f.Agent)
}

// hangUploads makes the store stop responding when the first part of an upload arrives. The channel
// is closed then.
func hangUploads(l *lake) <-chan struct{} {
	began := make(chan struct{})
	l.proxy.Set(s3test.On(s3test.Part, func(w http.ResponseWriter, r *http.Request) bool {
		l.proxy.Set(s3test.Hang) // also for the end of the upload
		close(began)
		return s3test.Hang(w, r)
	}))
	return began
}

func waitClosed(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(wait.Timeout):
		t.Fatal("no upload in parts has begun")
	}
}

// TestSignalWhileTheStoreIsAway: the agent ends in time, and reports what it has not published. The
// next one completes it.
func TestSignalWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	l := s.newLake(t, s3test.Start(t), "away")
	l.proxy.Leave()
	l.produce(t, 100)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(l.entry)})
	a.WaitState("away", "ERROR")
	a.Signal(syscall.SIGTERM)
	if code := a.WaitExit(wait.Timeout); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	want := "away: publish objects: uploads have not ended in time; the next owner of the partitions completes what is planned, and reads the rest again: look up s3://lake/away/"
	if log := a.Log(); strings.Contains(log, "did not stop in time") || !strings.Contains(log, want) {
		t.Errorf("the log does not have %q, or the agent has not ended in time", want)
	}
	l.proxy.Return(t)
	a = agenttest.Start(t, agenttest.Options{Config: s.config(l.entry)})
	s.waitCommitted(t, a, l.entry, l.total())
	stopAgent(t, a)
	l.wantExact(t)
}
