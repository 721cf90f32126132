package project

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// arrows lists each package of the program and the packages of this module that it may
// import. A package that is not listed, or an import that is not allowed, is an error.
// Imports point down this list only.
//
// To add a package, add its row above the packages that it imports. To add an import,
// first check whether the importing package is the right place for the code; then add it
// here, so that a reviewer sees it.
var arrows = []struct{ name, imports string }{
	{".", "cli"},
	{"cli", "agent agent/consumer agent/kafka agent/plan agent/precheck agent/web cli/client cli/command cli/httpserver cli/logging cli/statustable cli/systemd cli/top config config/filewatch config/objects demo limits logkey retry sink sink/file sink/file/filename sink/objects/stores sink/template verify verify/kafkalog"},
	{"cli/top", "agent/consumer agent/web cli/client cli/statustable"},
	{"cli/client", ""},
	{"cli/command", "config config/strictyaml"},
	{"cli/httpserver", "logkey"},
	{"cli/logging", "logkey"},
	{"cli/systemd", "agent/consumer agent/web config/filewatch logkey"},
	{"cli/statustable", "agent/consumer agent/web"},
	{"demo", "logkey sink sink/file/filename sink/objects/folder sink/objects/store"},
	{"verify", "sink sink/objects/store sink/template"},
	{"verify/kafkalog", "agent/kafka agent/kafka/login config fetch leader retry sink/decode"},

	{"agent", "agent/consumer agent/diskspace agent/kafka agent/kafka/login agent/outage agent/plan agent/precheck agent/web condition config config/filewatch limits logkey retry sink sink/kinds"},
	{"agent/web", "agent/consumer agent/lag agent/plan agent/stats agent/web/fields agent/web/page config config/textdiff logkey sink"},
	{"agent/web/fields", ""},
	{"agent/web/page", ""},
	{"agent/plan", "config config/objects sink sink/file/filename"},
	{"agent/consumer", "agent/gate agent/generation agent/group agent/kafka agent/kafka/login agent/lag agent/offsets agent/outage agent/reject agent/stats agent/task condition config config/filewatch fetch logkey retry sink sink/deadletter"},
	{"agent/precheck", "agent/group agent/kafka agent/kafka/login config fetch sink sink/kinds"},
	{"agent/generation", "agent/gate agent/generation/schedule agent/group agent/kafka agent/lag agent/offsets agent/outage agent/reject agent/stats agent/task buffers condition config fetch leader limits logkey retry sink"},
	{"agent/generation/schedule", "retry sink"},
	{"agent/task", ""},
	{"agent/gate", ""},
	{"agent/reject", "agent/stats condition config leader logkey sink sink/deadletter sink/decode"},
	{"agent/group", "agent/kafka agent/kafka/login agent/offsets config fetch leader limits retry sink"},
	{"agent/outage", "agent/kafka agent/kafka/login condition config fetch logkey"},
	{"agent/kafka", "agent/kafka/login config fetch logkey retry"},
	{"agent/kafka/login", "config config/filewatch limits retry"},
	{"agent/offsets", "config leader sink"},
	{"agent/diskspace", "retry"},
	{"agent/stats", ""},
	{"agent/lag", ""},

	{"fetch", "fetch/batch fetch/dial fetch/metadata fetch/partition fetch/wire leader limits logkey retry"},
	{"fetch/metadata", "fetch/dial fetch/wire retry"},
	{"fetch/partition", "fetch/batch fetch/wire leader"},
	{"fetch/wire", "fetch/batch fetch/dial leader"},
	{"fetch/dial", "limits retry"},
	{"fetch/batch", "buffers leader limits record"},

	{"config", "config/filewatch config/objects config/strictyaml limits logkey sink sink/file/filename sink/template"},
	{"config/objects", "sink sink/objects/store sink/template"},
	{"config/textdiff", ""},
	{"config/strictyaml", ""},
	{"config/filewatch", "condition logkey"},

	{"sink/kinds", "sink sink/file sink/file/filename sink/objects sink/objects/stores sink/stdout"},
	{"sink/objects", "leader logkey retry sink sink/encode sink/objects/spool sink/objects/store sink/sinkio sink/template"},
	{"sink/objects/spool", "buffers sink sink/compress sink/encode sink/file/disk sink/sinkio"},
	{"sink/stdout", "sink sink/encode sink/sinkio"},
	{"sink/file", "leader logkey sink sink/encode sink/file/checkpoint sink/file/disk sink/file/filename sink/file/retention sink/file/writer sink/sinkio sink/template"},
	{"sink/file/writer", "limits logkey sink sink/compress sink/encode sink/file/checkpoint sink/file/disk sink/file/filename sink/sinkio"},
	{"sink/file/retention", "logkey sink sink/file/checkpoint sink/file/disk sink/file/filename"},
	{"sink/file/checkpoint", "buffers leader sink sink/file/disk sink/file/filename sink/sinkio"},
	{"sink/file/filename", "sink"},
	{"sink/file/disk", ""},
	{"sink/compress", "limits sink"},
	{"sink/deadletter", "leader sink"},
	{"sink/decode", "sink"},
	{"sink/objects/stores", "sink sink/objects/azure sink/objects/folder sink/objects/gcs sink/objects/s3 sink/objects/store"},
	{"sink/objects/folder", "sink sink/objects/store sink/sinkio"},
	{"sink/objects/azure", "limits sink sink/objects/rest sink/objects/store sink/objects/transport"},
	{"sink/objects/gcs", "limits sink sink/objects/rest sink/objects/store sink/objects/transport"},
	{"sink/objects/rest", "limits retry sink sink/objects/transport"},
	{"sink/objects/s3", "limits sink sink/objects/store sink/objects/transport"},
	{"sink/objects/transport", "limits sink sink/objects/store sink/sinkio"},
	{"sink/objects/store", ""},
	{"sink/template", "sink"},
	{"sink/encode", "sink"},
	{"sink/sinkio", ""},
	{"sink", "leader record"},

	{"condition", "logkey"},
	{"buffers", ""},
	{"record", ""},
	{"retry", ""},
	{"limits", "logkey"},
	{"leader", ""},
	{"logkey", ""},
}

// Bounds of the layout. A package must be small enough that a newcomer can understand it,
// a file small enough to be read in one sitting, and a function small enough for a screen.
const (
	maxFiles         = 12  // of a package
	maxShare         = 5   // a package holds at most 1/maxShare of the program's lines
	maxFileLines     = 350 // of a file
	maxFunctionLines = 70
)

// A programPackage is a package of this module that is part of the program, without its
// tests.
type programPackage struct {
	name    string // below the module; "." is the root
	Dir     string
	GoFiles []string
	Imports []string
}

func programPackages(t *testing.T) []programPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,GoFiles,Imports", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []programPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			programPackage
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if p.name = inModule(p.ImportPath); p.name != "" {
			all = append(all, p.programPackage)
		}
	}
}

// inModule returns the path of a package below the module, "" for one of another module.
func inModule(importPath string) string {
	if importPath == "kcagent" {
		return "."
	}
	name, ok := strings.CutPrefix(importPath, "kcagent/")
	if !ok {
		return ""
	}
	return name
}

// TestImportsFollowTheArrows: each import of a package of this module is allowed, and each
// allowed import is used.
func TestImportsFollowTheArrows(t *testing.T) {
	allowed, place := make(map[string][]string), make(map[string]int)
	for i, a := range arrows {
		allowed[a.name], place[a.name] = strings.Fields(a.imports), i
	}
	for _, a := range arrows {
		for _, to := range allowed[a.name] {
			if at, ok := place[to]; !ok || at <= place[a.name] {
				t.Errorf("arrows lets %s import %s, which must be below it", a.name, to)
			}
		}
	}
	exist := make(map[string]bool)
	for _, p := range programPackages(t) {
		exist[p.name] = true
		if _, ok := place[p.name]; !ok {
			t.Errorf("package %s is not in arrows: add it with the packages that it may import", p.name)
			continue
		}
		var imports []string
		for _, path := range p.Imports {
			if to := inModule(path); to != "" {
				imports = append(imports, to)
			}
		}
		for _, to := range imports {
			if !slices.Contains(allowed[p.name], to) {
				t.Errorf("package %s imports %s, which arrows does not allow", p.name, to)
			}
		}
		for _, to := range allowed[p.name] {
			if !slices.Contains(imports, to) {
				t.Errorf("arrows lets %s import %s, which it does not: remove it", p.name, to)
			}
		}
	}
	for name := range place {
		if !exist[name] {
			t.Errorf("arrows lists %s, which does not exist: remove it", name)
		}
	}
}

// TestSizesStayReadable: packages, files and functions are small.
func TestSizesStayReadable(t *testing.T) {
	total, lines := 0, make(map[string]int)
	packages := programPackages(t)
	for _, p := range packages {
		for _, file := range p.GoFiles {
			n := countLines(t, filepath.Join(p.Dir, file))
			lines[p.name] += n
			total += n
			if n > maxFileLines {
				t.Errorf("%s/%s has %d lines, more than %d", p.name, file, n, maxFileLines)
			}
			checkFunctions(t, filepath.Join(p.Dir, file))
		}
	}
	for _, p := range packages {
		var faults []string
		if n := len(p.GoFiles); n > maxFiles {
			faults = append(faults, fmt.Sprintf("%d files, more than %d", n, maxFiles))
		}
		if n := lines[p.name]; n*maxShare > total {
			faults = append(faults, fmt.Sprintf("%d lines, more than a fifth of the program's %d", n, total))
		}
		if len(faults) > 0 {
			t.Errorf("package %s has %s: split it", p.name, strings.Join(faults, ", and "))
		}
	}
}

func countLines(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		n++
	}
	return n
}

func checkFunctions(t *testing.T, path string) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if n := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1; n > maxFunctionLines {
			t.Errorf("%s: %s has %d lines, more than %d", set.Position(f.Pos()), f.Name.Name, n, maxFunctionLines)
		}
	}
}

// TestRootHoldsMainOnly: the first listing that a visitor sees has one Go file.
func TestRootHoldsMainOnly(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(files, []string{"main.go"}) {
		t.Errorf("the root holds %v; move tests beside what they test", files)
	}
}
