package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// TestFromNormalisedInvertsNormalised: the normalised configuration without its secrets is
// enough for a comparison.
func TestFromNormalisedInvertsNormalised(t *testing.T) {
	files, err := filepath.Glob("testdata/good/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	checked := 0
	env := func(name string) (string, bool) { return "value-of-" + strings.ToLower(name), true }
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c, problems := Parse(file, a.Files[0].Data, env)
		if problems != nil {
			continue // requires variables of its own
		}
		checked++
		if again := roundTrip(t, c, c); !reflect.DeepEqual(again.Consumers, c.Consumers) || again.Limits != c.Limits {
			t.Errorf("%s: got\n%+v\nwant\n%+v", file, again, c)
		}
	}
	if checked < 3 {
		t.Errorf("%d files were checked", checked)
	}
}

func roundTrip(t *testing.T, c, mine *Config) *Config {
	t.Helper()
	shown, err := json.Marshal(c.Normalised())
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := c.SecretHashes()
	if err != nil {
		t.Fatal(err)
	}
	again, err := FromNormalised(shown, hashes, mine)
	if err != nil {
		t.Fatalf("%v\n%s", err, shown)
	}
	return again
}

func TestSecretHashRecognisesTheSameSecret(t *testing.T) {
	parse := func(password string) *Config {
		t.Helper()
		text := `
clusters:
  main: {brokers: ["a:1"], tls: {}, sasl: {mechanism: PLAIN, username: u, password: "` + password + `"}}
consumers:
- {name: a, cluster: main, topics: [t], sink: {file: {path: "/data/$$x-{partition}.log", rotate: {every: 1h}}}}
`
		c, problems := Parse("c.yaml", []byte(text), os.LookupEnv)
		if problems != nil {
			t.Fatal(problems)
		}
		return c
	}
	c := parse("swordfish")
	if again := roundTrip(t, c, parse("swordfish")); !reflect.DeepEqual(again.Consumers, c.Consumers) {
		t.Error("the same password is taken for another one")
	}
	if again := roundTrip(t, c, parse("swordfisk")); reflect.DeepEqual(again.Consumers, parse("swordfisk").Consumers) {
		t.Error("another password is taken for the same one")
	}
	hashes, err := c.SecretHashes()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(hashes)
	if err != nil || strings.Contains(string(text), "swordfish") {
		t.Errorf("%s, %v", text, err)
	}
	other, err := c.SecretHashes()
	if err != nil || reflect.DeepEqual(hashes, other) {
		t.Error("two hashes of one password are equal, which reveals that the passwords are")
	}
	for _, bad := range []string{"", "{", "[]", `{"consumers": [{}]}`} {
		if _, err := FromNormalised([]byte(bad), nil, c); err == nil {
			t.Errorf("%q was decoded", bad)
		}
	}
}

// TestSecretsAreAllOfTheConfiguration: each [Secret], wherever it is.
func TestSecretsAreAllOfTheConfiguration(t *testing.T) {
	c, problems := Parse("f", []byte(`
clusters:
  a: {brokers: ['a:1'], sasl: {mechanism: PLAIN, username: u, password: first}}
  b: {brokers: ['b:1'], sasl: {mechanism: OAUTHBEARER, oauth: {token_url: 'https://h/', client_id: i, client_secret: second}}}
consumers: [{name: c, cluster: a, topics: [t], sink: {stdout: {}}}]
`), testEnv)
	if problems != nil {
		t.Fatal(problems)
	}
	got := c.Secrets()
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("got %q", got)
	}
}
