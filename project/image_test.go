package project

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"kcagent/cli"
)

// An instruction of the Dockerfile, such as COPY with its arguments.
type instruction struct {
	stage int // 1 for the first FROM
	name  string
	args  string
}

func dockerfile(t *testing.T) []instruction {
	t.Helper()
	var all []instruction
	stage := 0
	for line := range strings.Lines(read(t, "Dockerfile")) {
		name, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		if name == "FROM" {
			stage++
		}
		all = append(all, instruction{stage, name, args})
	}
	return all
}

// last returns the arguments of the last instruction with a name, in the stage that becomes
// the image.
func last(t *testing.T, all []instruction, name string) string {
	t.Helper()
	final := all[len(all)-1].stage
	found := ""
	for _, i := range all {
		if i.stage == final && i.name == name {
			found = i.args
		}
	}
	if found == "" {
		t.Fatalf("the image has no %s", name)
	}
	return found
}

// words reads the JSON form, the only one that works without a shell.
func words(t *testing.T, args string) []string {
	t.Helper()
	var list []string
	if err := json.Unmarshal([]byte(args[strings.Index(args, "["):]), &list); err != nil {
		t.Fatalf("%s: %v", args, err)
	}
	return list
}

func TestImageRunsWithoutRoot(t *testing.T) {
	all := dockerfile(t)
	user := last(t, all, "USER")
	uid, _, _ := strings.Cut(user, ":")
	if n, err := strconv.Atoi(uid); err != nil || n == 0 {
		t.Errorf("USER %s is not a number other than 0", user)
	}
	data := last(t, all, "VOLUME")
	for _, i := range all {
		if i.name == "COPY" && strings.HasSuffix(i.args, " "+data) && strings.Contains(i.args, "--chown="+user+" ") {
			return
		}
	}
	t.Errorf("%s does not belong to %s", data, user)
}

// TestImageRunsExistingCommands: the entry point is the copied binary, its commands and flags
// exist, and the file that they name is in the image.
func TestImageRunsExistingCommands(t *testing.T) {
	all := dockerfile(t)
	entry, run := words(t, last(t, all, "ENTRYPOINT")), words(t, last(t, all, "CMD"))
	health := words(t, last(t, all, "HEALTHCHECK"))
	targets := make(map[string]bool)
	for _, i := range all {
		if f := strings.Fields(i.args); i.name == "COPY" && i.stage == all[len(all)-1].stage {
			targets[f[len(f)-1]] = true
		}
	}
	if len(entry) != 1 || !targets[entry[0]] || health[0] != entry[0] {
		t.Errorf("the image runs %v, its health check %v, but it holds %v", entry, health, targets)
	}
	for _, command := range [][]string{run, health[1:]} {
		help := help(t, "Dockerfile", command[0])
		for i, w := range command {
			if strings.HasPrefix(w, "--") && !strings.Contains(help, "\n  "+w+" ") {
				t.Errorf("%v: there is no %s", command, w)
			}
			if w == "--config" && !targets[command[i+1]] {
				t.Errorf("%v: the image has no such file", command)
			}
		}
	}
}

// TestImageBuildHasItsSources: the copied files and all sources of the program exist and are
// not ignored.
func TestImageBuildHasItsSources(t *testing.T) {
	ignored := dockerignore(t)
	check := func(file string) {
		t.Helper()
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
		if ignored(file) {
			t.Errorf("%s is needed, but .dockerignore keeps it out", file)
		}
	}
	for _, i := range dockerfile(t) {
		if i.name != "COPY" || strings.HasPrefix(i.args, "--from=") {
			continue
		}
		f := strings.Fields(i.args)
		for _, source := range f[:len(f)-1] {
			check(source)
		}
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	format := `{{$d := .Dir}}{{with .Module}}{{if .Main}}{{range $.GoFiles}}{{$d}}/{{.}}
{{end}}{{range $.EmbedFiles}}{{$d}}/{{.}}
{{end}}{{end}}{{end}}`
	out, err := exec.Command("go", "list", "-deps", "-f", format, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for file := range strings.FieldsSeq(string(out)) {
		name, err := filepath.Rel(here, file)
		if err != nil {
			t.Fatal(err)
		}
		check(filepath.ToSlash(name))
	}
	for _, file := range []string{"cli/cli_test.go", "config/testdata/bad", "e2e", "deploy/grafana", ".git"} {
		if !ignored(file) {
			t.Errorf("%s is not needed for the build, but not ignored", file)
		}
	}
}

// dockerignore returns a function that reports whether a file is ignored. It knows the
// patterns that we use: of a path or of one above it, and **/ for any depth.
func dockerignore(t *testing.T) func(file string) bool {
	t.Helper()
	patterns := strings.Fields(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(read(t, ".dockerignore"), ""))
	return func(file string) bool {
		for at := file; at != "."; at = path.Dir(at) {
			for _, p := range patterns {
				name := at
				if rest, deep := strings.CutPrefix(p, "**/"); deep {
					p, name = rest, path.Base(at)
				}
				if ok, _ := path.Match(p, name); ok {
					return true
				}
			}
		}
		return false
	}
}

// TestDocumentsShowTheNameOfTheImage: the documents run the image that `make image` builds. A
// name without a tag means the tag latest, which another tag does not set.
func TestDocumentsShowTheNameOfTheImage(t *testing.T) {
	recipe := regexp.MustCompile(`(?m)^\tdocker build .*$`).FindString(read(t, "Makefile"))
	made := make(map[string]bool)
	for _, m := range regexp.MustCompile(` -t (\S+)`).FindAllStringSubmatch(recipe, -1) {
		made[m[1]] = true
	}
	shown := regexp.MustCompile(`(?m)docker run .*?(\S+)$| image: (kcagent\S*)$`)
	for _, file := range []string{"README.md", "consumers.yaml", "deploy/kubernetes/sidecar.yaml"} {
		names := shown.FindAllStringSubmatch(read(t, file), -1)
		if len(names) == 0 {
			t.Errorf("%s shows no image", file)
		}
		for _, m := range names {
			if name := m[1] + m[2]; !made[name] {
				t.Errorf("%s shows the image %s, but make image makes %v", file, name, made)
			}
		}
	}
}

// TestImageBinaryIsStatic runs the build of the Dockerfile: the binary requires no loader and
// no library, because the image has none, and knows its version.
func TestImageBinaryIsStatic(t *testing.T) {
	build := ""
	for _, i := range dockerfile(t) {
		if i.name == "RUN" && strings.Contains(i.args, "go build") {
			build = i.args
		}
	}
	binary := filepath.Join(t.TempDir(), "out", "kcagent") // in the image, too, the build makes the folder
	build = strings.Replace(build, "/out/kcagent", `"$OUT"`, 1)
	cmd := exec.Command("sh", "-ec", build)
	cmd.Env = append(os.Environ(), "VERSION=1.2.3-test", "OUT="+binary, "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", build, err, out)
	}
	if runtime.GOOS == "linux" {
		checkStatic(t, binary)
	}
	out, err := exec.Command(binary, "version").Output()
	if err != nil || !strings.Contains(string(out), "1.2.3-test") {
		t.Errorf("version prints %q, %v", out, err)
	}
	var unlinked bytes.Buffer
	cli.Run([]string{"version"}, &unlinked, io.Discard)
	if strings.Contains(unlinked.String(), "1.2.3-test") {
		t.Error("the version is there without the linker's help")
	}
}

func checkStatic(t *testing.T, binary string) {
	t.Helper()
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary is not static: it has a %s segment", p.Type)
		}
	}
}
