package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/cli/command"
)

func TestVerifyExitsWith1ForHolesAndRepeats(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	rec := func(offset string) string { return `{"topic":"orders","partition":3,"offset":` + offset + "}\n" }
	whole, next := file("1", rec("7")+rec("8")), file("2", rec("9"))
	far, torn := file("3", rec("20")), file("4", rec("10")+`{"topic":"ord`)
	for _, tt := range []struct {
		args []string
		code int
		out  []string // what stdout has
		err  string   // what stderr has
	}{
		{[]string{whole, next}, command.Success, []string{"topic  partition  first  last  records  missing  repeated  late\n", "orders          3      7     9        3        0         0     0\n"}, ""},
		{[]string{whole, far}, command.Failure, []string{"orders/3: offsets 9 to 19 are missing before " + far + ":1\n"}, ""},
		{[]string{"--allow-holes", whole, far}, command.Success, []string{"offsets 9 to 19"}, ""},
		{[]string{whole, far, "--allow-holes"}, command.Success, []string{"offsets 9 to 19"}, ""},
		{[]string{dir}, command.Failure, []string{torn + ":2: incomplete last line"}, ""},
		{[]string{"--allow-holes", whole, whole}, command.Failure, []string{"  2     0\n"}, ""},
		{[]string{whole, next, torn}, command.Failure, []string{torn + ":2: incomplete last line", "  10        4"}, ""},
		{[]string{filepath.Join(dir, "none")}, command.Failure, nil, "kcagent verify: stat " + filepath.Join(dir, "none") + ": no such file or directory\n"},
		{nil, command.Usage, nil, "no files"},
		{[]string{"--nope", whole}, command.Usage, nil, "unknown flag --nope"},
		{[]string{whole, far, "--allow-holes"}, command.Success, []string{"offsets 9 to 19"}, ""},
	} {
		code, out, stderr := kcagent(t, append([]string{"verify"}, tt.args...)...)
		if code != tt.code || !strings.Contains(stderr, tt.err) {
			t.Errorf("verify %v exits with %d, want %d; stderr: %s", tt.args, code, tt.code, stderr)
		}
		for _, want := range tt.out {
			if !strings.Contains(out, want) {
				t.Errorf("verify %v prints\n%swithout %q", tt.args, out, want)
			}
		}
	}
}
