package image

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"kcagent/cli" // so a change of the program also invalidates the cached results of tests
	"kcagent/deploy/licenses"
	"kcagent/e2e/loud"
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
	text := regexp.MustCompile(`\\\n *`).ReplaceAllString(read(t, "Dockerfile"), "") // one line for each instruction
	for line := range strings.Lines(text) {
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

// read returns the text of a file below the root of the module.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(source, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
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
		t.Fatalf("the Dockerfile has no %s", name)
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

// copied returns the paths of the files that the Dockerfile copies into the image.
func copied(all []instruction) []string {
	var targets []string
	for _, i := range all {
		if i.name != "COPY" || i.stage != all[len(all)-1].stage {
			continue
		}
		f := slices.DeleteFunc(strings.Fields(i.args), func(w string) bool { return strings.HasPrefix(w, "--") })
		target := f[len(f)-1]
		if !strings.HasSuffix(target, "/") {
			targets = append(targets, target)
			continue
		}
		for _, from := range f[:len(f)-1] {
			targets = append(targets, target+path.Base(from))
		}
	}
	return targets
}

// TestDockerfileAgreesWithImage: the image that `docker build` makes has the same binary,
// files, configuration and labels as the one of this package.
func TestDockerfileAgreesWithImage(t *testing.T) {
	t.Parallel()
	_, options := built(t)
	config := runConfig(options)
	all := dockerfile(t)
	want := map[string]string{
		"USER":    config.User,
		"WORKDIR": config.WorkingDir,
		"ENV":     strings.Join(config.Env, " "),
		"VOLUME":  slices.Collect(maps.Keys(config.Volumes))[0],
		"EXPOSE":  strings.TrimSuffix(slices.Collect(maps.Keys(config.ExposedPorts))[0], "/tcp"),
	}
	for name, value := range want {
		if got := last(t, all, name); got != value {
			t.Errorf("the Dockerfile has %s %s, the image %s", name, got, value)
		}
	}
	for name, value := range map[string][]string{"ENTRYPOINT": config.Entrypoint, "CMD": config.Cmd} {
		if got := words(t, last(t, all, name)); !slices.Equal(got, value) {
			t.Errorf("the Dockerfile has %s %q, the image %q", name, got, value)
		}
	}
	check := config.Healthcheck
	health := "--interval=" + check.Interval.String() + " --timeout=" + check.Timeout.String() +
		" --start-period=" + check.StartPeriod.String() + ` CMD ["` + strings.Join(check.Test[1:], `", "`) + `"]`
	if got := last(t, all, "HEALTHCHECK"); got != health {
		t.Errorf("the Dockerfile has HEALTHCHECK %s, the image %s", got, health)
	}
	labels := make(map[string]string)
	for _, m := range regexp.MustCompile(`(\S+)="(.*?)"`).FindAllStringSubmatch(last(t, all, "LABEL"), -1) {
		value := strings.NewReplacer("$VERSION", options.Version, "$REVISION", options.Revision,
			"$CREATED", config.Labels["org.opencontainers.image.created"]).Replace(m[2])
		labels[m[1]] = value
	}
	if !maps.Equal(labels, config.Labels) {
		t.Errorf("the Dockerfile has the labels %v, the image %v", labels, config.Labels)
	}
	compareFiles(t, all, unpacked(t, "amd64"))
}

func compareFiles(t *testing.T, all []instruction, image map[string]entry) {
	t.Helper()
	var files []string
	for name, e := range image {
		if !e.header.FileInfo().IsDir() || name == "data" {
			files = append(files, "/"+name)
		}
	}
	targets := copied(all)
	slices.Sort(files)
	slices.Sort(targets)
	if !slices.Equal(files, targets) {
		t.Errorf("the Dockerfile copies %v, the image has %v", targets, files)
	}
	text := read(t, "Dockerfile")
	for _, want := range []string{
		`CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "` + linkerFlags("$VERSION") + `"`,
		"printf '" + strings.ReplaceAll(passwd, "\n", `\n`) + "' >/out/passwd",
		"printf '" + strings.ReplaceAll(group, "\n", `\n`) + "' >/out/group",
		"--chown=" + user + " /out/data /data",
		"go run ./deploy/licenses/print >/out/" + licenses.File,
		"COPY --from=build /out/" + licenses.File + " /" + licenses.File,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the Dockerfile does not have %q", want)
		}
	}
}

// TestDockerfileBuilds builds the Dockerfile and runs the image, if an engine runs here. CI
// has none.
func TestDockerfileBuilds(t *testing.T) {
	if out, err := exec.Command("docker", "info").CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		loud.Skip(t, "KCAGENT_REQUIRE_DOCKER", "the Dockerfile is not built without a container engine: "+lines[len(lines)-1])
	}
	docker := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("docker", args...)
		cmd.Dir = source
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("docker %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	const name = "kcagent:dockerfile-test"
	docker("build", "--build-arg", "VERSION="+testVersion, "-t", name, ".")
	defer docker("image", "rm", name)
	if out := docker("run", "--rm", "--read-only", name, "version"); !strings.Contains(out, testVersion) {
		t.Errorf("version prints %q", out)
	}
	docker("run", "--rm", "--read-only", name, "validate", "--config", "/etc/kcagent/consumers.yaml")
}

// TestImageRunsExistingCommands: the entry point is the copied binary, its commands and flags
// exist, and the file that they name is in the image.
func TestImageRunsExistingCommands(t *testing.T) {
	all := dockerfile(t)
	entry, run := words(t, last(t, all, "ENTRYPOINT")), words(t, last(t, all, "CMD"))
	health := words(t, last(t, all, "HEALTHCHECK"))
	targets := make(map[string]bool)
	for _, target := range copied(all) {
		targets[target] = true
	}
	if len(entry) != 1 || !targets[entry[0]] || health[0] != entry[0] {
		t.Errorf("the image runs %v, its health check %v, but it holds %v", entry, health, targets)
	}
	for _, command := range [][]string{run, health[1:]} {
		help := help(t, command[0])
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

// TestImageBuildHasItsSources: the copied files and all sources of the program, and of the
// command that prints the licenses, exist and are not ignored.
func TestImageBuildHasItsSources(t *testing.T) {
	t.Parallel()
	ignored := dockerignore(t)
	check := func(file string) {
		t.Helper()
		if _, err := os.Stat(filepath.Join(source, file)); err != nil {
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
	root, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	format := `{{$d := .Dir}}{{with .Module}}{{if .Main}}{{range $.GoFiles}}{{$d}}/{{.}}
{{end}}{{range $.EmbedFiles}}{{$d}}/{{.}}
{{end}}{{end}}{{end}}`
	for file := range strings.FieldsSeq(goList(t, "-deps", "-f", format, ".", "./deploy/licenses/print")) {
		name, err := filepath.Rel(root, file)
		if err != nil {
			t.Fatal(err)
		}
		check(filepath.ToSlash(name))
	}
	for _, file := range []string{"cli/cli_test.go", "config/testdata/bad", "e2e", "deploy/grafana", "deploy/licenses/licenses_test.go", ".git"} {
		if !ignored(file) {
			t.Errorf("%s is not needed for the build, but not ignored", file)
		}
	}
}

// dockerignore returns a function that reports whether a file is ignored. It knows the
// patterns that we use: of a path or of one above it, **/ for any depth, and ! for an
// exception. The last pattern that matches decides.
func dockerignore(t *testing.T) func(file string) bool {
	t.Helper()
	patterns := strings.Fields(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(read(t, ".dockerignore"), ""))
	return func(file string) bool {
		ignored := false
		for _, p := range patterns {
			p, included := strings.CutPrefix(p, "!")
			p, deep := strings.CutPrefix(p, "**/")
			for at := file; at != "."; at = path.Dir(at) {
				name := at
				if deep {
					name = path.Base(at)
				}
				if ok, _ := path.Match(p, name); ok {
					ignored = !included
				}
			}
		}
		return ignored
	}
}

// TestDocumentsShowTheNameOfTheImage: the documents run the image that `make docker` builds. A
// name without a tag means the tag latest, which another tag does not set.
func TestDocumentsShowTheNameOfTheImage(t *testing.T) {
	recipe := regexp.MustCompile(`(?m)^\tdocker build (.*\\\n)*.*$`).FindString(read(t, "Makefile"))
	made := make(map[string]bool)
	for _, m := range regexp.MustCompile(` -t (\S+)`).FindAllStringSubmatch(recipe, -1) {
		made[m[1]] = true
	}
	shown := regexp.MustCompile(`(?m)docker run .*?(\S+)$`)
	for _, file := range []string{"README.md", "consumers.yaml"} {
		names := shown.FindAllStringSubmatch(read(t, file), -1)
		if len(names) == 0 {
			t.Errorf("%s shows no image", file)
		}
		for _, m := range names {
			if name := m[1]; !made[name] {
				t.Errorf("%s shows the image %s, but make docker makes %v", file, name, made)
			}
		}
	}
}

// help returns what a command prints with --help.
func help(t *testing.T, command string) string {
	t.Helper()
	var out, problem bytes.Buffer
	if code := cli.Run([]string{command, "--help"}, &out, &problem); code != 0 {
		t.Errorf("the image runs kcagent %s: --help exits with %d, %s", command, code, &problem)
	}
	return out.String()
}
