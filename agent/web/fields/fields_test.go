package fields

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

type document struct {
	Name  string         `json:"name"`
	Note  string         `json:"note,omitempty"`
	At    time.Time      `json:"at"`
	Count map[string]int `json:"count"`
	Items []item         `json:"items"`
	Next  *item          `json:"next"`
	None  *item          `json:"none"`
}

type item struct {
	ID    int      `json:"id"`
	Error *string  `json:"error"`
	Parts []string `json:"parts"`
	Below []below  `json:"below"`
}

type below struct {
	A int `json:"a"`
}

func example() *document {
	text := "a < b"
	return &document{
		Name: "x", Count: map[string]int{"a": 1}, Next: &item{ID: 3},
		Items: []item{{ID: 1, Error: &text, Parts: []string{"p"}}, {ID: 2}},
	}
}

// TestOnlySelectedFieldsAreEncoded, in the order of the struct and as encoding/json would.
func TestOnlySelectedFieldsAreEncoded(t *testing.T) {
	for fields, want := range map[string]string{
		"name":                 `{"name":"x"}`,
		"note":                 `{}`,
		"count,name":           `{"name":"x","count":{"a":1}}`,
		"items.id":             `{"items":[{"id":1},{"id":2}]}`,
		"items.parts,items.id": `{"items":[{"id":1,"parts":["p"]},{"id":2,"parts":null}]}`,
		"items.error":          `{"items":[{"error":"a < b"},{"error":null}]}`,
		"next.id,none.id":      `{"next":{"id":3},"none":null}`,
		"items.id,items":       `{"items":[{"id":1,"error":"a < b","parts":["p"],"below":null},{"id":2,"error":null,"parts":null,"below":null}]}`,
		"items,items.id":       `{"items":[{"id":1,"error":"a < b","parts":["p"],"below":null},{"id":2,"error":null,"parts":null,"below":null}]}`,
		"at":                   `{"at":"0001-01-01T00:00:00Z"}`,
	} {
		s, err := Of[document]().Select(strings.Split(fields, ","))
		if err != nil {
			t.Errorf("%s: %v", fields, err)
			continue
		}
		var b bytes.Buffer
		if err := s.Append(&b, example()); err != nil || b.String() != want {
			t.Errorf("%s: got %s, %v, want %s", fields, b.String(), err, want)
		}
	}
}

func TestAllIsWhatJSONEncodes(t *testing.T) {
	var b, want bytes.Buffer
	if err := All.Append(&b, example()); err != nil {
		t.Fatal(err)
	}
	enc := json.NewEncoder(&want)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(example()); err != nil {
		t.Fatal(err)
	}
	if got := b.String() + "\n"; got != want.String() {
		t.Errorf("got %s, want %s", got, want.String())
	}
}

// TestUnknownFieldsAreNamedWithTheValidOnes of the struct where the name is wrong.
func TestUnknownFieldsAreNamedWithTheValidOnes(t *testing.T) {
	for fields, want := range map[string]string{
		"nme":            `unknown field "nme": use one or more of name, note, at, count, items, next, none`,
		"parts":          `unknown field "parts": did you mean items.parts?`,
		"error.x":        `unknown field "error.x": did you mean items.error?`,
		"name,":          `unknown field "": use one or more of name, note, at, count, items, next, none`,
		"items.nme":      `unknown field "items.nme": use one or more of items.id, items.error, items.parts, items.below`,
		"items,items.x":  `unknown field "items.x": use one or more of items.id, items.error, items.parts, items.below`,
		"items.":         `unknown field "items.": use one or more of items.id, items.error, items.parts, items.below`,
		"name.x":         `unknown field "name.x": name has no fields`,
		"at.wall":        `unknown field "at.wall": at has no fields`,
		"items.parts.x":  `unknown field "items.parts.x": items.parts has no fields`,
		"\x1b[2J":        `unknown field "\x1b[2J": use one or more of name, note, at, count, items, next, none`,
		"items.id,NAME ": `unknown field "NAME ": use one or more of name, note, at, count, items, next, none`,
	} {
		if _, err := Of[document]().Select(strings.Split(fields, ",")); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", fields, err, want)
		}
	}
}

func TestHasAndBelow(t *testing.T) {
	s, err := Of[document]().Select([]string{"name", "items.id"})
	if err != nil {
		t.Fatal(err)
	}
	var none *Selection
	for what, tt := range map[string]struct{ got, want bool }{
		"a field":                        {s.Has("name"), true},
		"a part of a field":              {s.Has("items"), true},
		"another field":                  {s.Has("at"), false},
		"a nested field":                 {s.Below("items").Has("id"), true},
		"another nested field":           {s.Below("items").Has("error"), false},
		"below one that is not selected": {s.Below("next").Has("id"), false},
		"below one that is selected":     {s.Below("name").Has("anything"), true},
		"all":                            {All.Below("items").Has("id"), true},
		"nothing":                        {none.Has("id"), false},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %v", what, tt.got)
		}
	}
}
