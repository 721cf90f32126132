package verify

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"

	"kcagent/sink/objects/store"
	"kcagent/sink/objects/store/storetest"
	"kcagent/sink/template"
)

const (
	hourly = "{topic}/dt={time:2006-01-02}/hour={time:15}/{topic}-{partition}-{first}-{last}-{topic_id}"
	plain  = "{topic}/{partition}/{first}-{last}-{topic_id}"
	short  = "{topic}/{partition}/{first}"
)

func keyTemplate(t testing.TB, text string) *template.Template {
	t.Helper()
	key, err := template.Parse(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// hour is the timestamp of a record at an hour of the day.
func hour(h int) time.Time { return time.Date(2026, 11, 28, h, 30, 0, 0, time.UTC) }

// record is a line of the JSON format.
func record(topic string, partition, offset, h int) string {
	return fmt.Sprintf(`{"topic":%q,"partition":%d,"offset":%d,"timestamp":%q,"key":null,"value":"v","headers":[]}`+"\n",
		topic, partition, offset, hour(h).Format("2006-01-02T15:04:05.000Z"))
}

// An objectSet is objects in a memory store.
type objectSet struct {
	testing.TB
	*storetest.Memory
	key     *template.Template
	objects int    // of each range, as the metadata says
	of      origin // as the metadata says
}

func newObjects(t testing.TB, text string) *objectSet {
	return &objectSet{t, storetest.NewMemory(false), keyTemplate(t, text), 1, origin{}}
}

func (s *objectSet) write(key, data string, meta map[string]string) {
	s.Helper()
	if err := s.Put(s.Context(), key, strings.NewReader(data), int64(len(data)), store.Attributes{Meta: meta}); err != nil {
		s.Fatal(err)
	}
}

// rangeOf writes an object of the range from first to last of partition 0 of topic t, with records at an
// hour, and returns its key.
func (s *objectSet) rangeOf(id string, first, last, h int, offsets ...int) string {
	s.Helper()
	var b strings.Builder
	for _, o := range offsets {
		b.WriteString(record("t", 0, o, h))
	}
	return s.object(id, first, last, h, b.String(), len(offsets))
}

func (s *objectSet) object(id string, first, last, h int, data string, count int) string {
	s.Helper()
	key, err := s.key.Render(template.Values{Topic: "t", First: int64(first), Last: int64(last), TopicID: id, Time: hour(h)})
	if err != nil {
		s.Fatal(err)
	}
	key += ".jsonl"
	s.write(key, data, map[string]string{
		"kcagenttopic": "t", "kcagentpartition": "0", "kcagentfirst": strconv.Itoa(first), "kcagentlast": strconv.Itoa(last), "kcagentcount": strconv.Itoa(count),
		"kcagentobjects": strconv.Itoa(s.objects), "kcagentcluster": s.of.cluster, "kcagenttopicid": s.of.topicID,
	})
	return key
}

// prove returns what Prove says.
func (s *objectSet) prove(deep, allowHoles bool) (good bool, out, notes string, err error) {
	var o, n strings.Builder
	of := Objects{Store: s.Memory, Keys: []*template.Template{s.key}, Deep: deep}
	good, err = of.Prove(s.Context(), ObjectsReport{AllowHoles: allowHoles, Out: &o, Notes: &n})
	return good, o.String(), n.String(), err
}

// row returns the numbers of the first row of the table: first, last, ranges, objects, gaps, repeated
// and, with deep, records and unused, and with a log, missing and unknown.
func row(out string) string {
	lines := strings.SplitN(out, "\n", 3)
	if len(lines) < 2 {
		return ""
	}
	fields := strings.Fields(lines[1])
	i := slices.Index(fields, "0")
	return strings.Join(fields[i+1:], " ")
}

// TestRangesAreProvenFromKeys: whether they overlap or leave holes between the first and the last one.
func TestRangesAreProvenFromKeys(t *testing.T) {
	for _, tt := range []struct {
		name, key string
		write     func(s *objectSet)
		good      bool // without --allow-holes
		allowed   bool // with it
		row       string
		out       string // regular expression
	}{
		{"ranges that follow each other", plain, func(s *objectSet) {
			s.rangeOf("a2345678", 7, 9, 0)
			s.rangeOf("a2345678", 10, 10, 0)
			s.rangeOf("a2345678", 11, 30, 0)
		}, true, true, "7 30 3 3 0 0", ""},
		{"several hours are one range", hourly, func(s *objectSet) {
			s.rangeOf("abcdefgh", 0, 9, 3)
			s.rangeOf("abcdefgh", 0, 9, 4)
			s.rangeOf("abcdefgh", 10, 19, 2) // late records
			s.rangeOf("abcdefgh", 10, 19, 4)
		}, true, true, "0 19 2 4 0 0", ""},
		{"a hole", plain, func(s *objectSet) {
			s.rangeOf("a2345678", 0, 9, 0)
			s.rangeOf("a2345678", 12, 19, 0)
		}, false, true, "0 19 2 2 2 0", `t/0: gap of offsets 10 to 11 before t/0/0{18}12-0{18}19-a2345678\.jsonl: only the log can explain it\n`},
		{"an overlap", plain, func(s *objectSet) {
			s.rangeOf("a2345678", 0, 9, 0)
			s.rangeOf("a2345678", 9, 19, 0)
			s.rangeOf("a2345678", 20, 29, 0)
		}, false, false, "0 29 3 3 0 1", `t/0: offset 9 is repeated at t/0/0{19}9-0{18}19`},
		{"a range within another", hourly, func(s *objectSet) {
			s.rangeOf("abcdefgh", 0, 19, 3)
			s.rangeOf("abcdefgh", 5, 6, 2)
			s.rangeOf("abcdefgh", 20, 21, 2)
		}, false, false, "0 21 3 3 0 2", "offsets 5 to 6 are repeated"},
		{"two ranges from the same offset", plain, func(s *objectSet) {
			s.rangeOf("a2345678", 0, 9, 0)
			s.rangeOf("a2345678", 0, 19, 0)
		}, false, false, "0 19 2 2 0 10", "offsets 0 to 9 are repeated"},
		{"the same records with another compression", plain, func(s *objectSet) {
			s.write(s.rangeOf("a2345678", 0, 9, 0)+".gz", "", nil)
		}, false, false, "0 9 1 2 0 10", "offsets 0 to 9 are repeated at .*gz"},
		{"a topic that was created again", plain, func(s *objectSet) {
			s.rangeOf("aaaaaaaa", 0, 9, 0)
			s.rangeOf("bbbbbbbb", 0, 4, 0)
		}, true, true, "0 9 1 1 0 0", " bbbbbbbb +0 +0 +4 +1 +1 "},
		{"the last offset is in the metadata only", short, func(s *objectSet) {
			s.rangeOf("", 0, 9, 0)
			s.rangeOf("", 11, 19, 0)
		}, false, true, "0 19 2 2 1 0", "gap of offset 10 before"},
		{"the last offset is nowhere", short, func(s *objectSet) {
			s.rangeOf("", 0, 9, 0)
			s.write(strings.Replace(s.rangeOf("", 10, 19, 0), "0", "1", 1), "", nil)
		}, false, false, "0 19 2 2 0 0", "names a last offset"},
		{"a key of another template", plain, func(s *objectSet) {
			s.rangeOf("a2345678", 0, 9, 0)
			s.write(fmt.Sprintf("t/x/%020d", 10), "", nil)
		}, false, false, "0 9 1 1 0 0", "t/x/0+10: key does not match the template, but contains an offset; set the template with --key"},
		{"the last offset below the first", plain, func(s *objectSet) {
			s.rangeOf("a2345678", 0, 9, 0)
			s.rangeOf("a2345678", 20, 19, 0)
		}, false, false, "0 9 1 1 0 0", "not below the first one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newObjects(t, tt.key)
			tt.write(s)
			for allow, want := range map[bool]bool{false: tt.good, true: tt.allowed} {
				good, out, notes, err := s.prove(false, allow)
				if err != nil || good != want || row(out) != tt.row || !regexp.MustCompile(tt.out).MatchString(out) {
					t.Errorf("holes allowed %v: good %v, %v\n%s%s", allow, good, err, out, notes)
				}
				if good && tt.good && notes != "" {
					t.Errorf("advice on a good proof: %s", notes)
				}
			}
		})
	}
}

// TestOtherKeysAreIgnored: the first few of them are named; probe objects are not.
func TestOtherKeysAreIgnored(t *testing.T) {
	s := newObjects(t, plain)
	s.rangeOf("a2345678", 0, 9, 0)
	for i := range 12 {
		s.write(fmt.Sprintf("_SUCCESS-%d\x1b", i), "", nil)
	}
	good, out, notes, err := s.prove(false, false)
	if err != nil || !good || row(out) != "0 9 1 1 0 0" {
		t.Errorf("good %v, %v\n%s", good, err, out)
	}
	if !strings.Contains(notes, `"_SUCCESS-0\x1b" is ignored`) || !strings.Contains(notes, "2 more keys are ignored") || strings.Contains(notes, "\x1b") {
		t.Errorf("%s", notes)
	}
	of := Objects{Store: s.Memory, Keys: []*template.Template{s.key}, Ignore: func(key string) bool { return strings.HasPrefix(key, "_") }}
	var text strings.Builder
	if good, err := of.Prove(t.Context(), ObjectsReport{Out: &text, Notes: &text}); !good || err != nil || strings.Contains(text.String(), "_SUCCESS") {
		t.Errorf("good %v, %v\n%s", good, err, text.String())
	}
}

// TestFormerTemplatesAreProvenTogether: the ranges of a consumer whose template was edited follow each
// other. A record belongs to the key of the template of its object.
func TestFormerTemplatesAreProvenTogether(t *testing.T) {
	s := newObjects(t, hourly)
	s.rangeOf("a2345678", 0, 1, 3, 0, 1)
	later := &objectSet{t, s.Memory, keyTemplate(t, plain), 1, origin{}}
	later.rangeOf("a2345678", 2, 3, 4, 2, 3)
	of := Objects{Store: s.Memory, Keys: []*template.Template{later.key, s.key}, Deep: true}
	var out strings.Builder
	if good, err := of.Prove(t.Context(), ObjectsReport{Out: &out, Notes: &out}); !good || err != nil || row(out.String()) != "0 3 2 2 0 0 4 0" {
		t.Errorf("good %v, %v\n%s", good, err, out.String())
	}
}

func TestNoObjectProvesNothing(t *testing.T) {
	s := newObjects(t, plain)
	s.write("other", "", nil)
	if good, _, _, err := s.prove(false, true); good || err == nil || !strings.Contains(err.Error(), "nothing is proven: no key matches the template") {
		t.Errorf("good %v, %v", good, err)
	}
}

// TestContentsAreProven: with Deep, what the objects hold is compared with keys and metadata.
func TestContentsAreProven(t *testing.T) {
	zipped := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
		return b.String()
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	five := record("t", 0, 5, 3)
	for _, tt := range []struct {
		name  string
		write func(s *objectSet)
		good  bool
		row   string
		out   string // regular expression
	}{
		{"whole", func(s *objectSet) {
			s.objects = 2
			s.rangeOf("a2345678", 0, 3, 3, 0, 2)
			s.rangeOf("a2345678", 0, 3, 4, 1)
			s.objects = 1
			s.object("a2345678", 4, 4, 4, zipped(record("t", 0, 4, 4)), 1)
			s.object("a2345678", 5, 6, 3, string(enc.EncodeAll([]byte(five), nil)), 1)
		}, true, "0 6 3 4 0 0 5 2", ""},
		{"an offset of another range", func(s *objectSet) { s.rangeOf("", 0, 3, 3, 0, 4) }, false, "0 3 1 1 0 0 1 3", "line 2: offset 4 is outside of the range"},
		{"the same offset twice", func(s *objectSet) { s.rangeOf("", 0, 3, 3, 0, 0) }, false, "0 3 1 1 0 0 1 3", "line 2: offset 0 comes after offset 0"},
		{"descending offsets", func(s *objectSet) { s.rangeOf("", 0, 3, 3, 1, 0) }, false, "0 3 1 1 0 0 1 3", "line 2: offset 0 comes after offset 1"},
		{"the same offset in two hours", func(s *objectSet) {
			s.objects = 2
			s.rangeOf("", 0, 3, 3, 0, 2)
			s.rangeOf("", 0, 3, 4, 1, 2, 3)
		}, false, "0 3 1 2 0 0 4 0", `hour=04/\S+: offset 2 is repeated; \S+hour=03/\S+ has it, too`},
		{"a copy in another hour", func(s *objectSet) {
			s.rangeOf("", 0, 3, 3, 0, 1, 3)
			s.rangeOf("", 0, 3, 4, 0, 1, 3)
		}, false, "0 3 1 2 0 0 3 1", `hour=04/\S+: 3 offsets from 0 to 3 are repeated; \S+hour=03/\S+ has them, too\n`},
		{"a record of another hour", func(s *objectSet) {
			s.object("", 0, 3, 3, record("t", 0, 0, 3)+record("t", 0, 1, 4), 2)
		}, false, "0 3 1 1 0 0 1 3", "line 2: timestamp 2026-11-28T04:30:00Z belongs to the key t/dt=2026-11-28/hour=04/"},
		{"fewer records than the metadata says", func(s *objectSet) { s.object("", 5, 5, 3, five, 2) }, false, "5 5 1 1 0 0 1 0", `the object has 1 records, its metadata kcagentcount says "2"`},
		{"an object of a range is missing", func(s *objectSet) {
			s.objects = 2
			s.rangeOf("", 0, 3, 3, 0, 1)
		}, false, "0 3 1 1 0 0 2 2", `the range has 1 objects, the metadata kcagentobjects says "2"`},
		{"no record", func(s *objectSet) { s.rangeOf("", 0, 3, 3) }, true, "0 3 1 1 0 0 0 4", ""},
		{"a record of another partition", func(s *objectSet) { s.object("", 5, 5, 3, record("t", 1, 5, 3), 1) }, false, "5 5 1 1 0 0 0 1", "line 1: the record is of t/1"},
		{"cut off", func(s *objectSet) { s.object("", 5, 5, 3, five[:40], 1) }, false, "5 5 1 1 0 0 0 1", "line 1: incomplete last line"},
		{"gzip that is cut off", func(s *objectSet) { s.object("", 5, 5, 3, zipped(five)[:30], 1) }, false, "5 5 1 1 0 0 0 1", "ends in the middle of a block"},
		{"zstd that is damaged", func(s *objectSet) { s.object("", 5, 5, 3, "\x28\xb5\x2f\xfd\xff\xff\xff\xff\xff", 1) }, false, "5 5 1 1 0 0 0 1", "line 1: "},
		{"raw", func(s *objectSet) { s.object("", 5, 5, 3, "hello\n", 1) }, false, "5 5 1 1 0 0 0 1", "only objects with format: json can be read"},
		{"without metadata", func(s *objectSet) { s.write(s.rangeOf("", 5, 5, 3), five, nil) }, false, "5 5 1 1 0 0 1 0", "metadata kcagenttopic is missing"},
		{"the metadata of another range", func(s *objectSet) {
			meta := map[string]string{"kcagenttopic": "t", "kcagentpartition": "0", "kcagentfirst": "5", "kcagentlast": "6", "kcagentcount": "1", "kcagentobjects": "1"}
			s.write(s.rangeOf("", 5, 5, 3), five, meta)
		}, false, "5 5 1 1 0 0 1 0", `metadata kcagentlast is "6", the key says "5"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newObjects(t, hourly)
			tt.write(s)
			good, out, notes, err := s.prove(true, false)
			if err != nil || good != tt.good || row(out) != tt.row || !regexp.MustCompile(tt.out).MatchString(out) {
				t.Errorf("good %v, %v\n%s%s", good, err, out, notes)
			}
			if good, _, _, err := s.prove(false, false); !good || err != nil {
				t.Errorf("the keys alone: good %v, %v", good, err)
			}
		})
	}
}

// TestErrorOfTheStoreIsNotDamage: a proof that cannot read an object ends with the error of the store.
func TestErrorOfTheStoreIsNotDamage(t *testing.T) {
	broken := errors.New("access denied")
	for _, op := range []string{storetest.List, storetest.Head, storetest.Open, "read"} {
		s := newObjects(t, plain)
		s.rangeOf("", 0, 0, 0, 0)
		var of store.Store = s.Again(func(_ context.Context, c storetest.Call) (f storetest.Fault) {
			if c.Op == op {
				f.Before = broken
			}
			return f
		})
		if op == "read" {
			of = failing{s.Memory, broken}
		}
		o := Objects{Store: of, Keys: []*template.Template{s.key}, Deep: true}
		var out strings.Builder
		if good, err := o.Prove(t.Context(), ObjectsReport{Out: &out, Notes: &out}); good || !errors.Is(err, broken) || out.Len() > 0 {
			t.Errorf("%s: good %v, %v\n%s", op, good, err, out.String())
		}
	}
	s := newObjects(t, plain)
	s.rangeOf("", 0, 0, 0, 0)
	gone := s.Again(func(_ context.Context, c storetest.Call) (f storetest.Fault) {
		if c.Op == storetest.Open {
			f.Before = store.ErrNotExist
		}
		return f
	})
	o := Objects{Store: gone, Keys: []*template.Template{s.key}, Deep: true}
	var out strings.Builder
	if good, err := o.Prove(t.Context(), ObjectsReport{Out: &out, Notes: &out}); good || err != nil || !strings.Contains(out.String(), "was deleted after it had been listed") {
		t.Errorf("good %v, %v\n%s", good, err, out.String())
	}
}

// failing is a store whose objects cannot be read to their end.
type failing struct {
	store.Store
	err error
}

func (f failing) Open(context.Context, string) (io.ReadCloser, error) {
	return io.NopCloser(iotest.ErrReader(f.err)), nil
}

// A listing is a store whose list is changed.
type listing struct {
	store.Store
	change func([]store.Object) []store.Object
}

func (l listing) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		var all []store.Object
		for o := range l.Store.List(ctx, prefix) {
			all = append(all, o)
		}
		for _, o := range l.change(all) {
			if !yield(o, nil) {
				return
			}
		}
	}
}

// TestObjectsThatAreStoredMeanwhileAreLeftOut: the list has the newest range, and not the one before it,
// which was stored while the list was read.
func TestObjectsThatAreStoredMeanwhileAreLeftOut(t *testing.T) {
	s := newObjects(t, plain)
	s.rangeOf("a2345678", 0, 9, 0)
	s.rangeOf("a2345678", 20, 29, 0)
	start := time.Now()
	l := listing{s.Memory, func(all []store.Object) []store.Object {
		all[0].Modified, all[1].Modified = start.Add(-time.Hour), start.Add(time.Second)
		return all
	}}
	o := Objects{Store: l, Keys: []*template.Template{s.key}, Until: start}
	var out, notes strings.Builder
	if good, err := o.Prove(t.Context(), ObjectsReport{Out: &out, Notes: &notes}); !good || err != nil || row(out.String()) != "0 9 1 1 0 0" {
		t.Errorf("good %v, %v\n%s", good, err, out.String())
	}
	if !strings.Contains(notes.String(), "1 objects were stored since the start") {
		t.Error(notes.String())
	}
}

// TestAnyOrderOfTheListIsProven: without the order of the keys, the result is the same.
func TestAnyOrderOfTheListIsProven(t *testing.T) {
	s := newObjects(t, plain)
	for i := range 5 {
		s.rangeOf("a2345678", 10*i, 10*i+9, 0)
	}
	l := listing{s.Memory, func(all []store.Object) []store.Object {
		slices.Reverse(all)
		return all
	}}
	o := Objects{Store: l, Keys: []*template.Template{s.key}}
	var out strings.Builder
	if good, err := o.Prove(t.Context(), ObjectsReport{Out: &out, Notes: &out}); !good || err != nil || row(out.String()) != "0 49 5 5 0 0" {
		t.Errorf("good %v, %v\n%s", good, err, out.String())
	}
}

// TestOrderedKeysAreNotKept: the memory for a list whose keys order the ranges does not grow with the
// objects.
func TestOrderedKeysAreNotKept(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l := many{n: 20_000, end: func() {
		runtime.GC()
		runtime.ReadMemStats(&after)
	}}
	o := Objects{Keys: []*template.Template{keyTemplate(t, plain)}, Store: l}
	var out strings.Builder
	if good, err := o.Prove(t.Context(), ObjectsReport{Out: &out, Notes: &out}); !good || err != nil || row(out.String()) != "0 19999 20000 20000 0 0" {
		t.Errorf("good %v, %v\n%s", good, err, out.String())
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 256<<10 {
		t.Errorf("%d bytes are held after 20,000 keys", grown)
	}
}

// many lists n ranges of one offset each.
type many struct {
	store.Store
	n   int
	end func()
}

func (m many) List(context.Context, string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		for i := range m.n {
			if !yield(store.Object{Key: fmt.Sprintf("t/0/%020d-%020d-a2345678.jsonl", i, i)}, nil) {
				return
			}
		}
		m.end()
	}
}

func TestObjectsAreReportedAsJSON(t *testing.T) {
	s := newObjects(t, plain)
	s.rangeOf("a2345678", 0, 3, 3, 0, 2)
	s.rangeOf("a2345678", 5, 5, 3, 6)
	o := Objects{Store: s.Memory, Keys: []*template.Template{s.key}, Deep: true}
	var out, notes strings.Builder
	if good, err := o.Prove(t.Context(), ObjectsReport{JSON: true, Out: &out, Notes: &notes}); good || err != nil {
		t.Errorf("good %v, %v", good, err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatal(err)
	}
	const want = `{"good":false,"ignored_keys":0,"later_objects":0,"partitions":[{"first_offset":0,"gap_offsets":1,` +
		`"gaps":[{"at":"KEY","from":4,"missing":0,"reason":"only the log can explain it","to":4,"unknown":1}],"last_offset":5,"missing":null,"missing_offsets":null,` +
		`"objects":2,"partition":0,"ranges":2,"records":2,"repeated":0,"repeats":[],"topic":"t","topic_id":"a2345678","unknown":1,"unused":3,"unused_unknown":null}],` +
		`"problems":[{"key":"KEY","reason":"line 1: offset 6 is outside of the range of the key"}]}`
	text, _ := json.Marshal(got)
	if have := regexp.MustCompile(`"t/0/[^"]*"`).ReplaceAllString(string(text), `"KEY"`); have != want {
		t.Errorf("got\n%s\nwant\n%s", have, want)
	}
}
