package objects

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/sink"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/store/storetest"
	"kcagent/sink/sinktest"
)

// TestMetadata: what an object says about its records.
func TestMetadata(t *testing.T) {
	for _, c := range []struct {
		format      sink.Format
		codec       sink.Compression
		contentType string
	}{
		{sink.Raw, sink.Uncompressed, "text/plain"},
		{sink.JSON, sink.Uncompressed, "application/x-ndjson"},
		{sink.JSON, sink.Gzip, "application/gzip"},
		{sink.Raw, sink.Zstd, "application/zstd"},
	} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, 1, 10)
			w.spec.Format, w.spec.Compression = c.format, c.codec
			w.topic.Cluster = ""
			w.join(nil).finish()
			o, _, _ := w.store.Content(w.keys()[0])
			want := map[string]string{
				metaTopicID: "topicid-1", metaTopic: "orders", metaPartition: "0", metaFirst: "0", metaLast: "9", metaCount: "10", metaObjects: "1",
				metaVersion: "1.2.3", metaConsumer: "orders",
			}
			if o.ContentType != c.contentType || o.ContentEncoding != "" || !maps.Equal(o.Meta, want) {
				t.Errorf("%s, %s: %+v", c.format, c.codec, o.Attributes)
			}
			for name := range o.Meta {
				if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
					t.Errorf("the name %q has other characters than a-z and digits", name)
				}
			}
		})
	}
}

func TestExtension(t *testing.T) {
	for _, c := range []struct {
		key    string
		format sink.Format
		codec  sink.Compression
		want   string
	}{
		{"{topic}/{partition}-{first}", sink.JSON, sink.Uncompressed, ".jsonl"},
		{"{topic}/{partition}-{first}", sink.JSON, sink.Zstd, ".jsonl.zst"},
		{"{topic}/{partition}-{first}", sink.Raw, sink.Uncompressed, ""},
		{"{topic}/{partition}-{first}", sink.Raw, sink.Gzip, ".gz"},
		{"{topic}/{partition}-{first}.json", sink.JSON, sink.Gzip, ".gz"},
		{"{topic}.d/{partition}-{first}", sink.JSON, sink.Uncompressed, ".jsonl"},
		{"{topic}/{time:2006.01.02}-{partition}-{first}", sink.JSON, sink.Uncompressed, ".jsonl"},
	} {
		if got := Extension(c.key, c.format, c.codec); got != c.want {
			t.Errorf("Extension(%q, %s, %s) is %q, want %q", c.key, c.format, c.codec, got, c.want)
		}
	}
}

// TestUploadedIsCalledForEachUpload: with its size; not for an object that was there.
func TestUploadedIsCalledForEachUpload(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2, 10)
		var sizes []int64
		m := w.join(nil)
		m.sink.(*objectsSink).options.Uploaded = func(n int64, took time.Duration) { sizes = append(sizes, n) }
		m.mustWrite(0, 10)
		for range 3 {
			_ = m.flush(true)
			synctest.Wait()
		}
		if !slices.Equal(sizes, []int64{100}) {
			t.Errorf("called with %v", sizes)
		}
		w.committed[partitionOf(0)] = sink.Commit{} // the range is read again
		m.resume(partitionOf(0))
		m.mustWrite(0, 10)
		for range 3 {
			_ = m.flush(true)
			synctest.Wait()
		}
		if len(sizes) != 1 || w.committed[partitionOf(0)].Next != 10 {
			t.Errorf("called with %v", sizes)
		}
	})
}

// TestReleaseEndsUploads: it does not wait for them, and leaves nothing in the spool.
func TestReleaseEndsUploads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 10)
		ended := make(chan struct{})
		a := w.join(func(ctx context.Context, c storetest.Call) (f storetest.Fault) {
			if c.Op == storetest.Put {
				<-ctx.Done()
				close(ended)
				f.Before = ctx.Err()
			}
			return f
		})
		a.mustWrite(0, 10)
		for range 2 {
			_ = a.flush(true)
			synctest.Wait()
		}
		began := time.Now()
		if err := a.sink.Release(); err != nil {
			t.Fatal(err)
		}
		<-ended
		if time.Since(began) != 0 {
			t.Errorf("the upload ended after %s", time.Since(began))
		}
		if o := a.sink.Objects(); o.Spool != 0 || o.Open != 0 || len(o.Partitions) != 0 {
			t.Errorf("the sink shows %+v", o)
		}
		if c := w.committed[partitionOf(0)]; c.Plan == nil {
			t.Errorf("the commit is %+v, want the open plan", c)
		}
	})
}

// TestPlannedStoreIsThatOfThePlan: its destination is opened with the credentials of the present
// configuration, once.
func TestPlannedStoreIsThatOfThePlan(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2, 10)
		old := w.spec
		w.spec.URL, w.spec.Endpoint, w.spec.Region, w.spec.PathStyle, w.spec.Account = "memory://new", "e", "r", true, "a"
		w.spec.Credentials.AccessKeyFile = "/present/key"
		var opened []sink.ObjectsSpec
		stores := make(map[string]*storetest.Memory)
		s, err := Open(t.Context(), w.spec, sink.Options{}, func(_ context.Context, spec *sink.ObjectsSpec) (store.Store, error) {
			opened = append(opened, *spec)
			stores[spec.URL] = storetest.NewMemory(true)
			return stores[spec.URL], nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for p := range int32(2) {
			plan := sink.Plan{Nonce: fmt.Sprint(p), Next: 1, Records: 1, Settings: PlanSettings(old)}
			if err := s.Complete(t.Context(), partitionOf(p), sink.Position{}, plan); err != nil {
				t.Fatal(err)
			}
			if err := sinktest.Write(t.Context(), s, sinktest.Records(p, 0, 1)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		was, now := opened[1], opened[0]
		if len(opened) != 2 || now.URL != "memory://new" || !now.PathStyle || was.URL != "memory://lake" || was.Endpoint != "" || was.PathStyle || was.Account != "" || was.Credentials.AccessKeyFile != "/present/key" {
			t.Errorf("opened %+v", opened)
		}
		if n := len(stores["memory://lake"].Keys()); n != 2 {
			t.Errorf("the store of the plan has %d objects", n)
		}
		if err := s.Close(false); err != nil {
			t.Error(err)
		}
	})
}

// TestPlannedStoreGetsNoAttributesOfAnother: if an edit names another server, the store of an open plan
// gets neither the storage class, encryption and tags of that, which it may reject, nor its private
// authorities.
func TestPlannedStoreGetsNoAttributesOfAnother(t *testing.T) {
	for _, c := range []struct {
		name       string
		edit       func(s *sink.ObjectsSpec)
		attributes bool
		tls        bool
	}{
		{"another bucket", func(s *sink.ObjectsSpec) { s.URL = "memory://new" }, true, true},
		{"another provider", func(s *sink.ObjectsSpec) { s.URL = "other://lake" }, false, true},
		{"another account", func(s *sink.ObjectsSpec) { s.Account = "a" }, false, true},
		{"a server of its own", func(s *sink.ObjectsSpec) { s.Endpoint = "https://minio" }, false, false},
	} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, 1, 10)
			old := w.spec
			w.spec.StorageClass, w.spec.ServerSideEncryption, w.spec.Tags = "COLD", "AES256", map[string]string{"team": "a"}
			w.spec.TLS = &sink.ObjectsTLS{CAFile: "/ca.pem"}
			c.edit(&w.spec)
			var was sink.ObjectsSpec
			s, err := Open(t.Context(), w.spec, sink.Options{}, func(_ context.Context, spec *sink.ObjectsSpec) (store.Store, error) {
				was = *spec
				return storetest.NewMemory(true), nil
			})
			if err != nil {
				t.Fatal(err)
			}
			plan := sink.Plan{Nonce: "n", Next: 1, Records: 1, Settings: PlanSettings(old)}
			if err := s.Complete(t.Context(), partitionOf(0), sink.Position{}, plan); err != nil {
				t.Fatal(err)
			}
			if was.URL != old.URL || (was.StorageClass != "") != c.attributes || (was.ServerSideEncryption != "") != c.attributes || (was.Tags != nil) != c.attributes || (was.TLS != nil) != c.tls {
				t.Errorf("%s: the store of the plan was opened as %+v", c.name, was)
			}
			if err := s.Close(false); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCommitsHaveDifferentNonces: so that the agent recognises the one that is in force.
func TestCommitsHaveDifferentNonces(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1, 10)
		a := w.join(nil)
		var nonces []string
		for range 10 {
			a.mustWrite(0, 1)
			_ = a.sink.Flush(t.Context(), true)
			synctest.Wait()
			for range 3 { // the plan, the position after it, and the position again
				nonces = append(nonces, a.commit(partitionOf(0)).Nonce)
				synctest.Wait()
			}
		}
		slices.Sort(nonces)
		if n := len(slices.Compact(nonces)); n != 30 || nonces[0] == "" {
			t.Errorf("%d different nonces: %q", n, nonces)
		}
	})
}

func TestServerOf(t *testing.T) {
	for _, c := range []struct {
		spec sink.ObjectsSpec
		want string
	}{
		{sink.ObjectsSpec{URL: "s3://lake/kafka"}, "s3://lake "},
		{sink.ObjectsSpec{URL: "s3://lake/kafka", Endpoint: "https://minio:9000"}, "https://minio:9000"},
		{sink.ObjectsSpec{URL: "az://lake", Account: "a"}, "az://lake a"},
		{sink.ObjectsSpec{URL: "file:///mnt/a"}, "file:///mnt/a"},
	} {
		if got := serverOf(c.spec); got != c.want {
			t.Errorf("serverOf(%+v) is %q, want %q", c.spec, got, c.want)
		}
	}
}
