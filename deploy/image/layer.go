package image

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"kcagent/deploy/licenses"
)

// A file is one entry of a layer. A name that ends with a slash is a folder.
type file struct {
	name    string
	mode    int64
	owner   int    // user and group
	content []byte // if from is empty
	from    string // a file to read the content from
}

const (
	passwd = "root:x:0:0:root:/:/sbin/nologin\nkcagent:x:65532:65532:kcagent:/data:/sbin/nologin\n"
	group  = "root:x:0:\nkcagent:x:65532:\n"
)

// baseLayer holds all but the binary.
func baseLayer(o Options) (v1.Layer, error) {
	thirdParty, err := licenses.Text(o.Source)
	if err != nil {
		return nil, err
	}
	return layer(o.Created, []file{
		{name: "LICENSE", mode: 0o644, from: o.sourceFile("LICENSE")},
		{name: licenses.File, mode: 0o644, content: thirdParty},
		{name: "data/", mode: 0o755, owner: uid},
		{name: "etc/", mode: 0o755},
		{name: "etc/group", mode: 0o644, content: []byte(group)},
		{name: "etc/kcagent/", mode: 0o755},
		{name: "etc/kcagent/consumers.yaml", mode: 0o644, from: o.sourceFile("consumers.yaml")},
		{name: "etc/passwd", mode: 0o644, content: []byte(passwd)},
		{name: "etc/ssl/", mode: 0o755},
		{name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: authorities()},
	})
}

// authorities returns the certificates of Mozilla's authorities. They come from a Go module,
// so go.sum determines them; those of the machine would differ from one to the next.
// Authorities that are trusted only for older certificates are left out, because a file of
// certificates cannot carry the date.
func authorities() []byte {
	var text bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			text.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}))
		}
	}
	return text.Bytes()
}

// layer returns a compressed layer with files in the given order, all of the given time.
func layer(modified time.Time, files []file) (v1.Layer, error) {
	var compressed bytes.Buffer
	zip := gzip.NewWriter(&compressed) // of a module, whose version go.sum determines
	w := tar.NewWriter(zip)
	for _, f := range files {
		if err := f.write(w, modified); err != nil {
			return nil, fmt.Errorf("add /%s: %w", f.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(compressed.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}

func (f file) write(w *tar.Writer, modified time.Time) error {
	h := &tar.Header{
		Name: f.name, Typeflag: tar.TypeReg, Mode: f.mode,
		Uid: f.owner, Gid: f.owner, ModTime: modified, Format: tar.FormatPAX,
	}
	if strings.HasSuffix(f.name, "/") {
		h.Typeflag = tar.TypeDir
		return w.WriteHeader(h)
	}
	content := f.content
	if f.from != "" {
		var err error
		if content, err = os.ReadFile(f.from); err != nil {
			return err
		}
	}
	h.Size = int64(len(content))
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}
