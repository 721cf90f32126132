package image

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/uuid"
)

// SBOMType is the media type of a bill of materials.
const SBOMType = "application/vnd.cyclonedx+json"

// authoritiesModule is the module that [authorities] come from.
const authoritiesModule = "golang.org/x/crypto/x509roots/fallback"

// SBOM returns the bill of materials of the binary for arch as CycloneDX in JSON: the modules
// that are linked, as the binary itself records them, Go's standard library, and the
// certificates of the image.
func SBOM(o Options, arch string) ([]byte, error) {
	binary, err := os.ReadFile(o.Binaries[arch])
	if err != nil {
		return nil, fmt.Errorf("list modules of the binary for %s: %w", arch, err)
	}
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		return nil, fmt.Errorf("list modules of the binary for %s: %w", arch, err)
	}
	sum := sha256.Sum256(binary)
	main := component("kcagent", o.Version, cyclonedx.ComponentTypeApplication)
	main.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}}
	main.Licenses = &cyclonedx.Licenses{{License: &cyclonedx.License{ID: "Apache-2.0"}}}
	parts := []cyclonedx.Component{component("std", strings.TrimPrefix(info.GoVersion, "go"), cyclonedx.ComponentTypeLibrary)}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		part := component(m.Path, m.Version, cyclonedx.ComponentTypeLibrary)
		if h1, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:")); err == nil && len(h1) == sha256.Size {
			part.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(h1)}}
		}
		parts = append(parts, part)
	}
	version, err := moduleVersion(o.Source, authoritiesModule)
	if err != nil {
		return nil, err
	}
	certificates := component(authoritiesModule, version, cyclonedx.ComponentTypeData)
	certificates.Description = "certificates of authorities, in the image only: /etc/ssl/certs/ca-certificates.crt"
	parts = append(parts, certificates)
	uses := make([]string, len(parts))
	for i, p := range parts {
		uses[i] = p.BOMRef
	}

	bom := cyclonedx.NewBOM()
	bom.SerialNumber = uuid.NewSHA1(uuid.NameSpaceOID, append(sum[:], version...)).URN()
	bom.Metadata = &cyclonedx.Metadata{Timestamp: o.Created.UTC().Format(time.RFC3339), Component: &main}
	bom.Components = &parts
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: main.BOMRef, Dependencies: &uses}}
	var text bytes.Buffer
	// The newest version of the format that scanners generally read.
	err = cyclonedx.NewBOMEncoder(&text, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cyclonedx.SpecVersion1_6)
	if err != nil {
		return nil, fmt.Errorf("encode bill of materials: %w", err)
	}
	return text.Bytes(), nil
}

func component(module, version string, kind cyclonedx.ComponentType) cyclonedx.Component {
	purl := "pkg:golang/" + module + "@" + strings.ReplaceAll(version, "+", "%2B")
	return cyclonedx.Component{BOMRef: purl, PackageURL: purl, Type: kind, Name: module, Version: version}
}

func moduleVersion(source, module string) (string, error) {
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Version}}", module)
	cmd.Dir = source
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("look up the version of %s: %w", module, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// attach returns the entry of the image's index that attaches a bill of materials to the
// image of one platform. Registries list it among the referrers of that image. It is in the
// index, too, so that every tool that copies the whole image also copies it; its platform,
// "unknown", is never selected to run.
func attach(image v1.Image, bom []byte) (mutate.IndexAddendum, error) {
	subject, err := partial.Descriptor(image)
	if err != nil {
		return mutate.IndexAddendum{}, err
	}
	artifact := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), SBOMType)
	artifact, err = mutate.AppendLayers(artifact, static.NewLayer(bom, SBOMType))
	if err != nil {
		return mutate.IndexAddendum{}, err
	}
	artifact = mutate.Subject(artifact, *subject).(v1.Image)
	return mutate.IndexAddendum{
		Add:        artifact,
		Descriptor: v1.Descriptor{ArtifactType: SBOMType, Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}},
	}, nil
}
