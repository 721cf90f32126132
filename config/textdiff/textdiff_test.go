package textdiff

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestDiffIsUnified: from the text in force to the text of the file, with three lines of context.
func TestDiffIsUnified(t *testing.T) {
	before := "a: 1\nb: 2\nc: 3\nd: 4\ne: 5\nf: 6\ng: 7\n"
	after := strings.Replace(before, "e: 5", "e: five", 1)
	want := "--- in force\n+++ file\n@@ -2,6 +2,6 @@\n b: 2\n c: 3\n d: 4\n-e: 5\n+e: five\n f: 6\n g: 7\n"
	if got, truncated := Unified(before, after, nil); got != want || truncated {
		t.Errorf("got %v\n%s", truncated, got)
	}
	if got, truncated := Unified(before, before, nil); got != "" || truncated {
		t.Errorf("equal texts differ: %s", got)
	}
}

// TestLongDiffIsTruncated at the end of a line.
func TestLongDiffIsTruncated(t *testing.T) {
	got, truncated := Unified("", strings.Repeat("a: é\n", MaxDiff), nil)
	if !truncated || len(got) > MaxDiff || !strings.HasSuffix(got, "\n+a: é\n") {
		t.Errorf("%v, %d bytes", truncated, len(got))
	}
	if got, truncated := Unified("", strings.Repeat("x", maxText+1), nil); got != "" || !truncated {
		t.Errorf("a huge text: %v, %d bytes", truncated, len(got))
	}
}

// layouts are ways to write a secret, MARKER, and what is shown of them. Lines before and
// after are shown.
var layouts = []struct{ text, shown string }{
	{"password: MARKER", "password: <secret>"},
	{"password: 'MARKER'  # note", "password: <secret>"},
	{"password: \"MARKER\"", "password: <secret>"},
	{"'password': MARKER", "'password': <secret>"},
	{"\"pass\\x77ord\": MARKER", "\"pass\\x77ord\": <secret>"},
	{"password:\n  MARKER", "password:\n  <secret>"},
	{"password: |\n  x\n  MARKER\n\n  MARKER", "password: <secret>\n  <secret>\n  <secret>\n\n  <secret>"},
	{"password: >-\n    MARKER\n    x", "password: <secret>\n    <secret>\n    <secret>"},
	{"password: \"a\n\n  MARKER\"", "password: <secret>\n\n  <secret>"},
	{"password: \"a\nMARKER\"", "password: <secret>\n<secret>"},
	{"password: a\n  MARKER", "password: <secret>\n  <secret>"},
	{"sasl: {mechanism: PLAIN, password: MARKER, username: u}", "sasl: {mechanism: PLAIN, password: <secret>"},
	{"sasl: {password:\n  MARKER, username: u}", "sasl: {password:\n  <secret>"},
	{"sasl: {\npassword: \"x\nMARKER\", username: u}", "sasl: {\npassword: <secret>\n<secret>username: u}"},
	{"? password\n: MARKER", "? <secret>\n<secret>"},
	{"password: !!str MARKER", "password: <secret>"},
	{"password: &p MARKER\nother: *p", "password: <secret>\nother: *p"},
	{"x-p: &p MARKER\npassword: *p", "x-p: <secret>\npassword: <secret>"},
	{"x-p: &p\n  - a: MARKER\npassword: *p", "x-p: <secret>\n  <secret>\npassword: <secret>"},
	{"client_secret: MARKER", "client_secret: <secret>"},
	{"oauth: {token: MARKER}", "oauth: {token: <secret>"},
	{"passwords: [MARKER, MARKER]", "passwords: <secret>"},
	{"passwords:\n- MARKER\n- MARKER", "passwords:\n<secret>\n<secret>"},
	{"PassWord: MARKER", "PassWord: <secret>"},
	{"pasword: MARKER", "pasword: <secret>"},
	{"sasl: {pw: MARKER}", "sasl: {pw: <secret>"},
	{"token_url: https://user:MARKER@host/path", "token_url: <secret>"},
	{"# token_url: https://user:MARKER@host/path", "# token_url: https://<secret>@host/path"},
	{"# password: MARKER\n# MARKER", "# password: <secret>\n# <secret>"},
	{"topics: [a] # password: MARKER", "topics: [a] # password: <secret>"},
	{"password: MARKER\ntopics: [MARKER]", "password: <secret>\ntopics: [<secret>]"},
	{"topics: [known-value]", "topics: [<secret>]"},
	{"topics: ['kn$$''own']", "topics: ['<secret>']"},
	// What is not YAML:
	{"a: [\npassword: MARKER", "a: [\npassword: <secret>"},
	{"a: b: c\npassword: |\n  MARKER\nuser: u", "a: b: c\npassword: <secret>\n  <secret>\nuser: u"},
	{"a: b: c\npassword: \"x\nuser: MARKER\"\nuser: u", "a: b: c\npassword: <secret>\n<secret>\nuser: u"},
	{"a: b: c\nx-p: &p MARKER\npassword: *p\nuser: u", "a: b: c\nx-p: <secret>\npassword: <secret>\nuser: u"},
	{"a: b: c\npassword MARKER", "a: b: c\npassword <secret>"},
	{"\tpassword = MARKER", "\tpassword = <secret>"},
	{"a: b: c\npassword_file: /file", "a: b: c\npassword_file: /file"},
	{"a: b: c\npassword: \"a \\\" \nuser: MARKER\"\nuser: u", "a: b: c\npassword: <secret>\n<secret>\nuser: u"},
	{"a: b: c\npassword: it's\nuser: u", "a: b: c\npassword: <secret>\nuser: u"},
	{"a: b: c\npassword: {a: 'x\nuser: }',\nuser: MARKER}\nuser: u", "a: b: c\npassword: <secret>\n<secret>\n<secret>\nuser: u"},
	// What is not secret:
	{"sasl: {username: u, password_file: /file, oauth: {token_url: https://host/, token_file: /t, client_secret_file: /c}}", ""},
	{"brokers: ['a:1'] # a comment", ""},
}

// TestSecretsAreHiddenInEachLayout, and nothing else.
func TestSecretsAreHiddenInEachLayout(t *testing.T) {
	for _, tt := range layouts {
		if tt.shown == "" {
			tt.shown = tt.text
		}
		known := append(secretValues(clean(tt.text)), "known-value", "kn$'own")
		got := reveal(hide(clean("first: 1\n"+tt.text+"\nlast: 2\n"), known))
		if want := "first: 1\n" + tt.shown + "\nlast: 2\n"; got != want && !strings.Contains(tt.text, "a: [") && !strings.Contains(tt.text, "\t") && !strings.Contains(tt.text, "word MARKER") {
			t.Errorf("%q is shown as\n%s\nwant\n%s", tt.text, got, want)
		} else if strings.Contains(got, "MARKER") || !strings.HasPrefix(got, "first: 1\n"+tt.shown) {
			t.Errorf("%q is shown as\n%s", tt.text, got)
		}
	}
}

// TestChangedSecretIsAChangedLine: the diff shows that a secret was changed, and one that
// was not is context.
func TestChangedSecretIsAChangedLine(t *testing.T) {
	got, _ := Unified("a: 1\npassword: old\ntoken: same\n", "a: 2\npassword: new\ntoken: same\n", nil)
	want := "--- in force\n+++ file\n@@ -1,3 +1,3 @@\n-a: 1\n-password: <secret>\n+a: 2\n+password: <secret>\n token: <secret>\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// FuzzSecretsAreHidden: no layout of a file reveals a secret, and no damage to the file does.
func FuzzSecretsAreHidden(f *testing.F) {
	for seed := range uint64(1000) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		text := randomFile(r)
		if shown := reveal(hide(clean(text), nil)); strings.Contains(shown, "MARKER") { // its layout alone hides it
			t.Errorf("the secret is shown of\n%s\nas\n%s", text, shown)
		}
	})
}

// randomFile returns a file with the secret MARKER in some layouts, sometimes with a part that
// is not YAML.
func randomFile(r *rand.Rand) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	var b strings.Builder
	for i := range 1 + r.IntN(4) {
		indent := strings.Repeat(" ", 2*r.IntN(3))
		fmt.Fprintf(&b, "%sx-%d:\n", indent, i)
		deeper := indent + strings.Repeat(" ", 1+r.IntN(3))
		key := pick("password", "client_secret", "token", "'password'", `"secret_key"`, "sasl_password", "PASSWORD")
		gap := pick(" ", "  ", "\n"+deeper+"  ", " !!str ", " &anchor"+fmt.Sprint(i)+" ")
		value := pick("MARKER", "'MARKER'", `"MARKER"`, "\"a \\\"MARKER\"", "'it''s MARKER'", "|\n"+deeper+"  first\n"+deeper+"  MARKER",
			">-\n"+deeper+" MARKER\n\n"+deeper+" user: MARKER", "\"a\n"+deeper+"  user: MARKER\n"+deeper+"  \"", "{a: MARKER, b: [MARKER]}", "[MARKER,\n"+deeper+"  MARKER]")
		switch entry := key + ":" + gap + value; r.IntN(4) {
		case 0:
			fmt.Fprintf(&b, "%suser: u\n%s%s\n%sother: 1\n", deeper, deeper, entry, deeper)
		case 1:
			flow := pick("MARKER", "'MARKER'", "\"a\n "+indent+"MARKER\"", "{a: MARKER}")
			fmt.Fprintf(&b, "%ssasl: {user: u, %s: %s,%sother: 1}\n", deeper, key, flow, pick(" ", "\n"+deeper))
		case 2:
			fmt.Fprintf(&b, "%s- name: n\n%s  %s\n", deeper, deeper, strings.ReplaceAll(entry, "\n", "\n    "))
		case 3:
			fmt.Fprintf(&b, "%surl: %shttps://user:MARKER@host/%s\n", deeper, pick("", "# "), pick("", "path?a=b"))
		}
		b.WriteString(pick("", "# comment\n", "\n", "a: b: c\n", "\t\n", "]\n", "last: 1\n", "---\n", "# password: MARKER\n"))
	}
	return b.String()
}

// TestRandomFilesAreOften YAML, so that the fuzz test reaches both ways to hide secrets.
func TestRandomFilesAreOftenYAML(t *testing.T) {
	valid := 0
	for seed := range uint64(300) {
		var any yaml.Node
		if yaml.Unmarshal([]byte(randomFile(rand.New(rand.NewPCG(seed, 1)))), &any) == nil {
			valid++
		}
	}
	if valid < 30 || valid > 270 {
		t.Errorf("%d of 300 random files are YAML", valid)
	}
}
