// Package image builds the container image without a container engine: an OCI image for
// several architectures, with a software bill of materials for each. The same sources, the
// same version of Go and the same [Options] give the same bytes.
//
// The Dockerfile builds an image with the same content and configuration. A test compares
// the two.
package image

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Name is the name of the image, without a registry.
const Name = "kcagent"

// Arches are the architectures of the image, as Go names them.
var Arches = []string{"amd64", "arm64"}

// Options say what an image contains.
type Options struct {
	Source   string            // the root folder of the module
	Version  string            // without a leading v, such as 1.2.3
	Revision string            // the commit
	Created  time.Time         // the time of all files and of the image; rounded down to seconds
	Binaries map[string]string // the path of the binary for each of Arches; see [Binary]
}

// An Image is a built image, in memory.
type Image struct {
	version string
	index   v1.ImageIndex       // the platforms and their bills of materials
	images  map[string]v1.Image // by architecture
	boms    map[string][]byte   // by architecture
}

// New builds the image for all of [Arches].
func New(o Options) (*Image, error) {
	o.Created = o.Created.UTC().Truncate(time.Second)
	built := &Image{
		version: o.Version,
		images:  make(map[string]v1.Image),
		boms:    make(map[string][]byte),
	}
	base, err := baseLayer(o)
	if err != nil {
		return nil, err
	}
	var manifests, boms []mutate.IndexAddendum
	for _, arch := range Arches {
		image, err := platformImage(o, arch, base)
		if err != nil {
			return nil, fmt.Errorf("build image for %s: %w", arch, err)
		}
		built.images[arch] = image
		manifests = append(manifests, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
		if built.boms[arch], err = SBOM(o, arch); err != nil {
			return nil, err
		}
		attached, err := attach(image, built.boms[arch])
		if err != nil {
			return nil, fmt.Errorf("attach bill of materials for %s: %w", arch, err)
		}
		boms = append(boms, attached)
	}
	index := mutate.AppendManifests(empty.Index, append(manifests, boms...)...)
	built.index = mutate.Annotations(index, labels(o)).(v1.ImageIndex)
	return built, nil
}

// SBOM returns the bill of materials of an architecture, as CycloneDX in JSON.
func (i *Image) SBOM(arch string) []byte { return slices.Clone(i.boms[arch]) }

// Tag returns the tag of a version: a tag cannot contain the + of a semantic version.
func Tag(version string) string { return strings.ReplaceAll(version, "+", "-") }

// platformImage returns the image for one architecture. The base layer comes first, because
// it is the same for most versions and need not be transferred again.
func platformImage(o Options, arch string, base v1.Layer) (v1.Image, error) {
	path, ok := o.Binaries[arch]
	if !ok {
		return nil, fmt.Errorf("no binary for %s; build it with image.Binary", arch)
	}
	binary, err := layer(o.Created, []file{{name: "kcagent", from: path, mode: 0o755}})
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	created := v1.Time{Time: o.Created}
	image, err = mutate.Append(image,
		mutate.Addendum{Layer: base, History: v1.History{Created: created, CreatedBy: "kcagent/deploy/image: certificates, user, licenses, configuration"}},
		mutate.Addendum{Layer: binary, History: v1.History{Created: created, CreatedBy: "kcagent/deploy/image: kcagent"}})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Created = created
	config.Config = runConfig(o)
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, err
	}
	return mutate.Annotations(image, labels(o)).(v1.Image), nil
}

// runConfig says how containers run. The Dockerfile says the same.
func runConfig(o Options) v1.Config {
	return v1.Config{
		User:         user,
		WorkingDir:   "/data",
		Env:          []string{"TMPDIR=/data"}, // for the spool of objects: the image has no /tmp
		Volumes:      map[string]struct{}{"/data": {}},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}},
		Entrypoint:   []string{"/kcagent"},
		Cmd:          []string{"run", "--config", "/etc/kcagent/consumers.yaml", "--listen", "0.0.0.0:8080"},
		// OCI does not define health checks, but Docker and Podman read them from here.
		Healthcheck: &v1.HealthConfig{
			Test:        []string{"CMD", "/kcagent", "health"},
			Interval:    10 * time.Second,
			Timeout:     6 * time.Second,
			StartPeriod: 10 * time.Second,
		},
		Labels: labels(o),
	}
}

// labels are also the annotations of the manifests.
func labels(o Options) map[string]string {
	const prefix = "org.opencontainers.image."
	return map[string]string{
		prefix + "title":       "kcagent",
		prefix + "description": "runs the Kafka consumers declared in one YAML file",
		prefix + "licenses":    "Apache-2.0",
		prefix + "version":     o.Version,
		prefix + "revision":    o.Revision,
		prefix + "created":     o.Created.Format(time.RFC3339),
	}
}

// user is a number, because Kubernetes' runAsNonRoot cannot judge a name.
const (
	uid  = 65532
	user = "65532:65532"
)

// sourceFile is a path below the root of the module.
func (o Options) sourceFile(name string) string {
	return filepath.Join(o.Source, filepath.FromSlash(name))
}
