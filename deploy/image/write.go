package image

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// WriteLayout writes the image of all platforms to dir as an OCI image layout. The folder
// must not hold another image.
func (i *Image) WriteLayout(dir string) error {
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write image layout: %w", err)
	}
	// The first annotation is OCI's, the second one containerd's and so Docker's.
	err = path.AppendIndex(i.index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": Tag(i.version),
		"io.containerd.image.name":          "docker.io/library/" + Name + ":" + Tag(i.version),
	}))
	if err != nil {
		return fmt.Errorf("write image layout: %w", err)
	}
	return nil
}

// WriteArchive writes the image of all platforms to the file out as an archive of an OCI
// image layout.
func (i *Image) WriteArchive(out string) error {
	dir, err := os.MkdirTemp("", "kcagent-image-")
	if err != nil {
		return fmt.Errorf("write image archive: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := i.WriteLayout(dir); err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return fmt.Errorf("write image archive: %w", err)
	}
	defer f.Close()
	if err := archive(f, os.DirFS(dir)); err != nil {
		return fmt.Errorf("write image archive: %w", err)
	}
	return f.Close()
}

// archive writes the files of a folder in the order of their names, without times.
func archive(f *os.File, dir fs.FS) error {
	w := tar.NewWriter(f)
	err := fs.WalkDir(dir, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		if d.IsDir() {
			return w.WriteHeader(&tar.Header{Name: path + "/", Typeflag: tar.TypeDir, Mode: 0o755})
		}
		content, err := fs.ReadFile(dir, path)
		if err != nil {
			return err
		}
		return file{name: path, mode: 0o644, content: content}.write(w, epoch)
	})
	if err != nil {
		return err
	}
	return w.Close()
}

// WriteDocker writes the image of one architecture to the file out as an archive that every
// version of Docker and Podman loads.
func (i *Image) WriteDocker(out, arch string) error {
	image, ok := i.images[arch]
	if !ok {
		return fmt.Errorf("write Docker archive: no image for %s", arch)
	}
	// One tag only: the library writes several in random order.
	ref, err := name.NewTag(Name + ":" + Tag(i.version))
	if err != nil {
		return fmt.Errorf("write Docker archive: %w", err)
	}
	if err := tarball.WriteToFile(out, ref, image); err != nil {
		return fmt.Errorf("write Docker archive: %w", err)
	}
	return nil
}

// epoch is the time of entries whose time means nothing.
var epoch = time.Unix(0, 0)
