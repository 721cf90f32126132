// Package kubetest validates Kubernetes manifests in tests, without a cluster: each document
// is checked against the schema of its kind, and unknown fields are errors. It also writes the
// volumes of a pod as the kubelet does.
//
// The schemas of Kubernetes come from the Python package kubernetes-validate, those of the
// Prometheus Operator and of KEDA from the packages of cloudcoil. No package has a strict
// schema of Argo CD's Application: schemas/application.json is ours, written from its
// documentation, and has only the fields that this project uses.
package kubetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// An Object is one document of a manifest.
type Object struct {
	APIVersion, Kind, Namespace, Name string

	// Fields is the whole document, as encoding/json decodes it.
	Fields map[string]any
}

// String returns how errors name the object, such as "Service kcagent".
func (o Object) String() string { return strings.TrimSpace(o.Kind + " " + o.Name) }

// Decode stores the object in v, which has the JSON tags of the fields that it needs.
// Fields that v lacks are ignored.
func (o Object) Decode(t testing.TB, v any) {
	t.Helper()
	text, err := json.Marshal(o.Fields)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		t.Fatalf("decode %s: %v", o, err)
	}
}

// Validate fails the test for each mistake in a text with any number of YAML documents, and
// returns the objects. Each object must be valid in the oldest and in the newest version of
// Kubernetes of [Versions]. A kind without a schema is a mistake, too, and so is a text
// without an object.
func Validate(t testing.TB, text string) []Object {
	t.Helper()
	objects, mistakes := check(t, text)
	for _, m := range mistakes {
		t.Errorf("invalid manifest: %s", m)
	}
	if len(objects) == 0 && len(mistakes) == 0 {
		t.Error("invalid manifest: no object")
	}
	return objects
}

// check returns the objects in text, and what is wrong with them.
func check(t testing.TB, text string) (objects []Object, mistakes []string) {
	t.Helper()
	seen := make(map[string]bool)
	for d := yaml.NewDecoder(strings.NewReader(text)); ; {
		var node yaml.Node
		if err := d.Decode(&node); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return objects, append(mistakes, err.Error()) // the decoder cannot continue
		}
		o, err := object(&node)
		if err != nil {
			mistakes = append(mistakes, err.Error())
			continue
		}
		if o.Fields == nil {
			continue // a document of comments only
		}
		objects = append(objects, o)
		id := strings.Join([]string{o.APIVersion, o.Kind, o.Namespace, o.Name}, "/")
		if seen[id] {
			mistakes = append(mistakes, fmt.Sprintf("%s: declared twice", o))
		}
		seen[id] = true
		var found []string
		for _, m := range append(ambiguous(&node), violations(t, o)...) {
			found = append(found, fmt.Sprintf("%s: %s", o, m))
		}
		slices.Sort(found) // most are the same in each version
		mistakes = append(mistakes, slices.Compact(found)...)
	}
	return objects, mistakes
}

// object decodes a document. Without content, the fields are nil.
func object(node *yaml.Node) (o Object, err error) {
	var content any
	if err := node.Decode(&content); err != nil { // duplicate keys, for example
		return o, err
	}
	if content == nil {
		return o, nil
	}
	text, err := json.Marshal(content)
	if err != nil {
		return o, err
	}
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct{ Namespace, Name string }
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return o, err
	}
	if head.APIVersion == "" || head.Kind == "" || head.Metadata.Name == "" {
		return o, fmt.Errorf("document at line %d: apiVersion, kind and metadata.name are required", node.Line)
	}
	o = Object{APIVersion: head.APIVersion, Kind: head.Kind, Namespace: head.Metadata.Namespace, Name: head.Metadata.Name}
	return o, json.Unmarshal(text, &o.Fields)
}

// ambiguous returns the unquoted words that this decoder reads as text, and the one of
// Kubernetes, which follows YAML 1.1, as true or false.
func ambiguous(node *yaml.Node) (mistakes []string) {
	if node.Kind == yaml.ScalarNode && node.Style == 0 {
		switch strings.ToLower(node.Value) {
		case "y", "n", "yes", "no", "on", "off":
			return []string{fmt.Sprintf("line %d: Kubernetes reads %s as a boolean: quote it", node.Line, node.Value)}
		}
	}
	for _, n := range node.Content {
		mistakes = append(mistakes, ambiguous(n)...)
	}
	return mistakes
}
