package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/registry"

	"kcagent/deploy/licenses"
	"kcagent/e2e/loud"
	"kcagent/e2e/tools"
)

// TestSBOMIsValid: the bill of materials follows the schema of CycloneDX and lists what is
// linked.
func TestSBOMIsValid(t *testing.T) {
	t.Parallel()
	image, options := built(t)
	schemas := filepath.Join(goList(t, "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go"), "schema")
	compiler := jsonschema.NewCompiler()
	for _, name := range []string{"bom-1.6.schema.json", "spdx.schema.json", "jsf-0.82.schemax.json"} {
		f, err := os.Open(filepath.Join(schemas, name))
		if err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		name = strings.Replace(name, "schemax", "schema", 1) // the name in the reference
		if err := compiler.AddResource("http://cyclonedx.org/schema/"+name, document); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := compiler.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range Arches {
		text := image.SBOM(arch)
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(document); err != nil {
			t.Error(err)
		}
		checkComponents(t, text, options.Binaries[arch])
	}
}

func checkComponents(t *testing.T, text []byte, binary string) {
	t.Helper()
	var bom cyclonedx.BOM
	if err := json.Unmarshal(text, &bom); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(program)
	main := bom.Metadata.Component
	if main.Name != "kcagent" || main.Version != testVersion || (*main.Hashes)[0].Value != hex.EncodeToString(sum[:]) {
		t.Errorf("the bill is of %+v", main)
	}
	if want := "2026-05-04T02:02:01Z"; bom.Metadata.Timestamp != want {
		t.Errorf("time %s, not %s", bom.Metadata.Timestamp, want)
	}
	// The modules of the packages that the binary is built from, according to the go command.
	linked := strings.Fields(goList(t, "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}@{{.Version}}{{end}}{{end}}", "kcagent"))
	slices.Sort(linked)
	linked = slices.Compact(linked)
	certificates := authoritiesModule + "@" + goList(t, "-m", "-f", "{{.Version}}", authoritiesModule)
	linked = append(linked, certificates, "std@"+strings.TrimPrefix(runtime.Version(), "go"))
	var listed []string
	for _, c := range *bom.Components {
		if c.PackageURL != "pkg:golang/"+strings.ReplaceAll(c.Name+"@"+c.Version, "+", "%2B") {
			t.Errorf("component %+v", c)
		}
		listed = append(listed, c.Name+"@"+c.Version)
	}
	text, err = licenses.Text(source)
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range listed {
		if !bytes.Contains(text, []byte("\n"+strings.Replace(module, "@", " ", 1)+"\n\n--- ")) {
			t.Errorf("the licenses do not have %s", module)
		}
	}
	slices.Sort(linked)
	slices.Sort(listed)
	if !slices.Equal(linked, listed) {
		t.Errorf("the bill lists\n%v\nbut linked are\n%v", listed, linked)
	}
}

// TestSBOMIsFound: a client of registries reads the archive and finds the bill of materials
// among the referrers of the image of each platform.
func TestSBOMIsFound(t *testing.T) {
	t.Parallel()
	image, _ := built(t)
	out := filepath.Join(t.TempDir(), "image.tar")
	if err := image.WriteArchive(out); err != nil {
		t.Fatal(err)
	}
	store, err := oci.NewFromTar(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	checkReferrers(t, store, "1.2.3-test-dirty", image)
}

func checkReferrers(t *testing.T, store content.ReadOnlyGraphStorage, tag string, image *Image) {
	t.Helper()
	index, err := store.(content.Resolver).Resolve(t.Context(), tag)
	if err != nil {
		t.Fatal(err)
	}
	children, err := content.Successors(t.Context(), store, index)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, child := range children {
		if child.Platform == nil || child.Platform.OS != "linux" {
			continue
		}
		found++
		referrers, err := registry.Referrers(t.Context(), store, child, SBOMType)
		if err != nil || len(referrers) != 1 {
			t.Fatalf("%d referrers, %v", len(referrers), err)
		}
		layers, err := content.Successors(t.Context(), store, referrers[0])
		if err != nil {
			t.Fatal(err)
		}
		last := layers[len(layers)-1]
		text, err := content.FetchAll(t.Context(), store, last)
		if err != nil || last.MediaType != SBOMType || !bytes.Equal(text, image.SBOM(child.Platform.Architecture)) {
			t.Errorf("the referrer holds %s, %v", last.MediaType, err)
		}
	}
	if found != len(Arches) {
		t.Errorf("found %d platforms", found)
	}
}

// TestArchivesAreReadByOtherTools: skopeo, which reads archives as Podman does, finds each
// platform, and a copy of the whole image still has its bills of materials.
func TestArchivesAreReadByOtherTools(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("skopeo"); err != nil {
		loud.Skip(t, tools.Require, "this test needs skopeo, of the Debian package skopeo")
	}
	image, _ := built(t)
	dir := t.TempDir()
	archive := filepath.Join(dir, "image.tar")
	if err := image.WriteArchive(archive); err != nil {
		t.Fatal(err)
	}
	for _, arch := range Arches {
		docker := filepath.Join(dir, arch+".tar")
		if err := image.WriteDocker(docker, arch); err != nil {
			t.Fatal(err)
		}
		for _, from := range []string{"oci-archive:" + archive, "docker-archive:" + docker + ":kcagent:1.2.3-test-dirty"} {
			var config v1.ConfigFile
			if err := json.Unmarshal([]byte(skopeo(t, "inspect", "--config", "--override-arch", arch, from)), &config); err != nil {
				t.Fatal(err)
			}
			if config.Architecture != arch || config.Config.User != user || !slices.Equal(config.Config.Entrypoint, []string{"/kcagent"}) {
				t.Errorf("%s has %+v", from, config)
			}
		}
	}
	copied := filepath.Join(dir, "copy")
	skopeo(t, "copy", "--all", "oci-archive:"+archive, "oci:"+copied+":copied")
	store, err := oci.New(copied)
	if err != nil {
		t.Fatal(err)
	}
	checkReferrers(t, store, "copied", image)
}

func skopeo(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("skopeo", append([]string{"--insecure-policy"}, args...)...)
	var problem bytes.Buffer
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("skopeo %v: %v\n%s", args, err, &problem)
	}
	return string(out)
}

func goList(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = source
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}
