package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/x509"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"go.uber.org/goleak"

	"kcagent/deploy/licenses"
)

const (
	source      = "../.."
	testVersion = "1.2.3-test+dirty"
)

// scratch is a folder for what the tests share.
var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "kcagent-image-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(scratch)
		os.Exit(code)
	}))
}

// build builds the binaries in dir from the module in code, and their image, with the other
// files from source.
func build(dir, code, source string) (*Image, Options, error) {
	o := Options{
		Source: source, Version: testVersion, Revision: "0123456789abcdef",
		Created:  time.Date(2026, 5, 4, 3, 2, 1, 999, time.FixedZone("", 3600)),
		Binaries: make(map[string]string),
	}
	for _, arch := range Arches {
		o.Binaries[arch] = filepath.Join(dir, "kcagent-"+arch)
		if err := Binary(context.Background(), code, arch, o.Version, o.Binaries[arch]); err != nil {
			return nil, o, err
		}
	}
	image, err := New(o)
	return image, o, err
}

var once = sync.OnceValue(func() (b struct {
	*Image
	options Options
	files   map[string]map[string]entry // by architecture and name
	err     error
},
) {
	if b.Image, b.options, b.err = build(scratch, source, source); b.err != nil {
		return b
	}
	b.files = make(map[string]map[string]entry)
	for _, arch := range Arches {
		if b.files[arch], b.err = unpack(b.images[arch]); b.err != nil {
			return b
		}
	}
	return b
})

// built returns the image that all tests share.
func built(t *testing.T) (*Image, Options) {
	t.Helper()
	b := once()
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.Image, b.options
}

// unpacked returns the files of the shared image for an architecture, by name.
func unpacked(t *testing.T, arch string) map[string]entry {
	t.Helper()
	built(t)
	return once().files[arch]
}

// TestImagePlatforms: the index is valid and has an image for each platform, with a static
// binary for it, of at most 35 MB, and 40 MB unpacked.
func TestImagePlatforms(t *testing.T) {
	t.Parallel()
	image, options := built(t)
	dir := t.TempDir()
	if err := image.WriteLayout(dir); err != nil {
		t.Fatal(err)
	}
	written, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	// Fast does not decompress the layers, which unpack does.
	if err := validate.Index(written, validate.Fast); err != nil {
		t.Error(err)
	}
	index, err := image.index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, m := range index.Manifests {
		if p := m.Platform.String(); p != "unknown/unknown" { // a bill of materials
			platforms = append(platforms, p)
		}
	}
	if want := []string{"linux/amd64", "linux/arm64"}; !slices.Equal(platforms, want) {
		t.Errorf("platforms are %v, not %v", platforms, want)
	}
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	for _, arch := range Arches {
		config, err := image.images[arch].ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.OS != "linux" || config.Architecture != arch {
			t.Errorf("the image for %s is for %s/%s", arch, config.OS, config.Architecture)
		}
		f, err := elf.Open(options.Binaries[arch])
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != machines[arch] {
			t.Errorf("the binary for %s is for %s", arch, f.Machine)
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
				t.Errorf("the binary for %s is not static: it has a %s segment", arch, p.Type)
			}
		}
		_ = f.Close()
		checkSize(t, arch, image.images[arch])
	}
}

func checkSize(t *testing.T, arch string, image v1.Image) {
	t.Helper()
	const most, mostUnpacked = 35_000_000, 40_000_000
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	var compressed, size int64
	for _, l := range manifest.Layers {
		compressed += l.Size
	}
	for _, f := range unpacked(t, arch) {
		size += f.header.Size
	}
	t.Logf("%s: %d bytes, unpacked %d", arch, compressed, size)
	if compressed > most || size > mostUnpacked {
		t.Errorf("the image for %s has %d bytes, unpacked %d: more than %d or %d", arch, compressed, size, most, mostUnpacked)
	}
}

type entry struct {
	header  *tar.Header
	content []byte
}

// unpack returns the files of an image by name, after all of its layers were applied.
func unpack(image v1.Image) (map[string]entry, error) {
	files := make(map[string]entry)
	stream := mutate.Extract(image)
	defer stream.Close()
	for r := tar.NewReader(stream); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		} else if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		files[filepath.Clean(h.Name)] = entry{h, content}
	}
}

// TestImageFiles: the image holds these files and no others, with the time of the build.
func TestImageFiles(t *testing.T) {
	t.Parallel()
	_, options := built(t)
	thirdParty, err := licenses.Text(source)
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range Arches {
		files := unpacked(t, arch)
		var lines []string
		for _, name := range slices.Sorted(maps.Keys(files)) {
			h := files[name].header
			lines = append(lines, fmt.Sprintf("%s %d:%d %s", h.FileInfo().Mode(), h.Uid, h.Gid, name))
			if want := time.Date(2026, 5, 4, 2, 2, 1, 0, time.UTC); !h.ModTime.Equal(want) {
				t.Errorf("%s has the time %v, not %v", name, h.ModTime, want)
			}
		}
		want := `-rw-r--r-- 0:0 LICENSE
-rw-r--r-- 0:0 THIRD_PARTY_LICENSES
drwxr-xr-x 65532:65532 data
drwxr-xr-x 0:0 etc
-rw-r--r-- 0:0 etc/group
drwxr-xr-x 0:0 etc/kcagent
-rw-r--r-- 0:0 etc/kcagent/consumers.yaml
-rw-r--r-- 0:0 etc/passwd
drwxr-xr-x 0:0 etc/ssl
drwxr-xr-x 0:0 etc/ssl/certs
-rw-r--r-- 0:0 etc/ssl/certs/ca-certificates.crt
-rwxr-xr-x 0:0 kcagent`
		if got := strings.Join(lines, "\n"); got != want {
			t.Errorf("the image for %s holds\n%s\nnot\n%s", arch, got, want)
		}
		for name, from := range map[string]string{
			"LICENSE":                    filepath.Join(source, "LICENSE"),
			"etc/kcagent/consumers.yaml": filepath.Join(source, "consumers.yaml"),
			"kcagent":                    options.Binaries[arch],
		} {
			if content, err := os.ReadFile(from); err != nil || !bytes.Equal(content, files[name].content) {
				t.Errorf("/%s is not %s, %v", name, from, err)
			}
		}
		if text := files[licenses.File].content; !bytes.Equal(text, thirdParty) {
			t.Errorf("/%s has %d bytes, not the text of the modules", licenses.File, len(text))
		}
		certificates := files["etc/ssl/certs/ca-certificates.crt"].content
		if n := bytes.Count(certificates, []byte("BEGIN CERTIFICATE")); n < 100 || !x509.NewCertPool().AppendCertsFromPEM(certificates) {
			t.Errorf("the image has %d certificates of authorities", n)
		}
		if text := string(files["etc/passwd"].content); !strings.Contains(text, "\nkcagent:x:65532:65532:") {
			t.Errorf("/etc/passwd has no entry of the user:\n%s", text)
		}
	}
}

// TestImageLabels: the labels are in the configuration, for Docker, and in the annotations of
// the manifests, for registries.
func TestImageLabels(t *testing.T) {
	t.Parallel()
	image, _ := built(t)
	want := map[string]string{
		"org.opencontainers.image.title":       "kcagent",
		"org.opencontainers.image.description": "runs the Kafka consumers declared in one YAML file",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     testVersion,
		"org.opencontainers.image.revision":    "0123456789abcdef",
		"org.opencontainers.image.created":     "2026-05-04T02:02:01Z",
	}
	index, err := image.index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	got := []map[string]string{index.Annotations}
	for _, arch := range Arches {
		manifest, err := image.images[arch].Manifest()
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.images[arch].ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, manifest.Annotations, config.Config.Labels)
	}
	for _, labels := range got {
		if !maps.Equal(labels, want) {
			t.Errorf("labels %v, not %v", labels, want)
		}
	}
}

// TestBinaryPrintsItsVersion runs the binary for the architecture of this machine.
func TestBinaryPrintsItsVersion(t *testing.T) {
	t.Parallel()
	_, options := built(t)
	binary, ok := options.Binaries[runtime.GOARCH]
	if !ok || runtime.GOOS != "linux" {
		t.Skipf("no image for %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	out, err := exec.Command(binary, "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "kcagent "+testVersion+" (") {
		t.Errorf("version prints %q, %v", out, err)
	}
}

// TestBinaryReportsBuildErrors: the error shows what the compiler printed.
func TestBinaryReportsBuildErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module kcagent\n", "main.go": "package main\n\nfunc main() { nothing() }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	err := Binary(t.Context(), dir, "amd64", "1.2.3", filepath.Join(dir, "out"))
	if err == nil || !strings.Contains(err.Error(), "build kcagent for amd64: ") || !strings.Contains(err.Error(), "undefined: nothing") {
		t.Errorf("error is %v", err)
	}
}
