package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"kcagent/deploy/image"
	"kcagent/deploy/packages"
)

// A release is one that is being built. The parts write their files to dir.
type release struct {
	identity
	ctx      context.Context
	dir      string
	work     string            // a folder for other files
	compiled map[string]string // see binaries
	built    *image.Image      // see image
}

// A part is a kind of file that a release consists of.
type part struct {
	name  string
	write func(*release) error
}

// The notes come first: they are the cheapest part, and most often the one with a mistake.
var parts = []part{
	{"notes", writeNotes},
	{"archives", writeArchives},
	{"packages", writePackages},
	{"image", writeImage},
	{"sbom", writeSBOMs},
	{"chart", writeChart},
}

func partNames() []string {
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = p.name
	}
	return names
}

// selectParts returns the parts with the names of a list, or all for an empty one.
func selectParts(list string) ([]part, error) {
	if list == "" {
		return parts, nil
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains(partNames(), name) {
			return nil, fmt.Errorf("unknown part %q: use %s", name, strings.Join(partNames(), ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(parts), func(p part) bool { return !slices.Contains(names, p.name) }), nil
}

// sums is the last file that is written. A folder that has it holds a complete release.
const sums = "SHA256SUMS"

// build builds parts of a release into the folder out and returns the names of the files. It
// builds in a folder beside it, so out never holds half of a release.
func build(ctx context.Context, id identity, parts []part, out string) ([]string, error) {
	if err := replaceable(out); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return nil, fmt.Errorf("create the folder of %s: %w; use another --out", out, err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(out), filepath.Base(out)+"-")
	if err != nil {
		return nil, fmt.Errorf("write beside %s: %w; permit it, or use another --out", out, err)
	}
	defer os.RemoveAll(dir)
	r := &release{identity: id, ctx: ctx, dir: filepath.Join(dir, "files"), work: dir}
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		return nil, err
	}
	for _, p := range parts {
		if err := p.write(r); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	names, err := r.writeSums()
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(out); err != nil {
		return nil, err
	}
	return names, os.Rename(r.dir, out)
}

// replaceable returns an error if the folder holds something else than a release.
func replaceable(out string) error {
	entries, err := os.ReadDir(out)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(entries) == 0) {
		return nil
	} else if err != nil {
		return fmt.Errorf("read the former release: %w; use another --out", err)
	}
	if _, err := os.Stat(filepath.Join(out, sums)); err != nil {
		return fmt.Errorf("%s holds files that are not a release; move them, or use another --out", out)
	}
	return nil
}

// binaries returns the paths of the binaries by architecture. The first call builds them.
func (r *release) binaries() (map[string]string, error) {
	if r.compiled != nil {
		return r.compiled, nil
	}
	paths := make(map[string]string)
	for _, arch := range image.Arches {
		paths[arch] = filepath.Join(r.work, "kcagent-"+arch)
		if err := image.Binary(r.ctx, r.Source, arch, r.Version, paths[arch]); err != nil {
			return nil, err
		}
	}
	r.compiled = paths
	return paths, nil
}

// image returns the image, which the first call builds.
func (r *release) image() (*image.Image, error) {
	if r.built != nil {
		return r.built, nil
	}
	binaries, err := r.binaries()
	if err != nil {
		return nil, err
	}
	r.built, err = image.New(image.Options{
		Source: r.Source, Version: r.Version, Revision: r.Revision, Created: r.Created, Binaries: binaries,
	})
	return r.built, err
}

// writePackages writes the packages for Debian and rpm, with the time in SOURCE_DATE_EPOCH.
func writePackages(r *release) error {
	binaries, err := r.binaries()
	if err != nil {
		return err
	}
	if err := os.Setenv("SOURCE_DATE_EPOCH", strconv.FormatInt(r.Created.Unix(), 10)); err != nil {
		return err
	}
	for _, arch := range image.Arches {
		o := packages.Options{Version: r.Version, Arch: arch, Binary: binaries[arch], Dir: r.dir}
		if _, err := packages.Build(r.ctx, o); err != nil {
			return err
		}
	}
	return nil
}

func writeImage(r *release) error {
	built, err := r.image()
	if err != nil {
		return err
	}
	if err := built.WriteArchive(r.path("kcagent-%s-image.oci.tar", r.Version)); err != nil {
		return err
	}
	for _, arch := range image.Arches {
		if err := built.WriteDocker(r.path("kcagent-%s-image-%s.docker.tar", r.Version, arch), arch); err != nil {
			return err
		}
	}
	return nil
}

func writeSBOMs(r *release) error {
	built, err := r.image()
	if err != nil {
		return err
	}
	for _, arch := range image.Arches {
		if err := r.write(fmt.Sprintf("kcagent-%s-linux-%s.cdx.json", r.Version, arch), built.SBOM(arch)); err != nil {
			return err
		}
	}
	return nil
}

// path returns the path of a file of the release.
func (r *release) path(format string, args ...any) string {
	return filepath.Join(r.dir, fmt.Sprintf(format, args...))
}

func (r *release) write(name string, content []byte) error {
	return os.WriteFile(filepath.Join(r.dir, name), content, 0o644)
}

// writeSums writes the checksums of all files, as sha256sum -c reads them.
func (r *release) writeSums() ([]string, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	var names []string
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(r.dir, e.Name()))
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(content)
		fmt.Fprintf(&text, "%s  %s\n", hex.EncodeToString(sum[:]), e.Name())
		names = append(names, e.Name())
	}
	return append(names, sums), r.write(sums, []byte(text.String()))
}
