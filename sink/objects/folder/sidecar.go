package folder

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"kcagent/sink/objects/store"
)

// A sidecar holds the attributes of an object. Inode, size and time say which file it describes.
type sidecar struct {
	Inode           uint64            `json:"inode"`
	Size            int64             `json:"size"`
	Modified        int64             `json:"modified"` // nanoseconds since 1970
	ContentType     string            `json:"content_type,omitempty"`
	ContentEncoding string            `json:"content_encoding,omitempty"`
	Meta            map[string]string `json:"meta,omitempty"`
}

func newSidecar(a store.Attributes, info fs.FileInfo) sidecar {
	return sidecar{
		inode(info), info.Size(), info.ModTime().UnixNano(),
		a.ContentType, a.ContentEncoding, a.Meta,
	}
}

// describes reports whether the sidecar is that of a file.
func (c *sidecar) describes(info fs.FileInfo) bool {
	return c.Inode == inode(info) && c.Size == info.Size() && c.Modified == info.ModTime().UnixNano()
}

// Names of the files of an upload, in the hidden folder beside the object. The last + separates
// the name of the object from the id of the upload. A long name of an object is replaced by its hash, so
// that both fit into a file name.
const (
	partEnd    = ".part"
	sidecarEnd = ".json"
)

func partName(key, id string) string    { return uploadName(key, id) + partEnd }
func sidecarName(key, id string) string { return uploadName(key, id) + sidecarEnd }

func uploadName(key, id string) string {
	return path.Join(path.Dir(key), hidden, uploadBase(key)+"+"+id)
}

// maxUploadBase leaves space for the id of the upload and the end of its names in the 255 bytes that a
// file name has on every common file system.
const maxUploadBase = 200

// uploadBase returns the name of an object in the names of its uploads.
func uploadBase(key string) string {
	base := path.Base(key)
	if len(base) <= maxUploadBase {
		return base
	}
	sum := sha256.Sum256([]byte(base))
	return hex.EncodeToString(sum[:])
}

// uploads returns the ids of all uploads of a key that have files.
func uploads(root *os.Root, key string) ([]string, error) {
	entries, err := fs.ReadDir(root.FS(), path.Join(path.Dir(key), hidden))
	if err != nil && (isFileInTheWay(err) || errors.Is(err, fs.ErrNotExist)) {
		return nil, nil
	}
	var ids []string
	for _, e := range entries {
		name, ok1 := strings.CutSuffix(e.Name(), partEnd)
		name, ok2 := strings.CutSuffix(name, sidecarEnd)
		if at := strings.LastIndexByte(name, '+'); (ok1 || ok2) && at >= 0 && name[:at] == uploadBase(key) {
			ids = append(ids, name[at+1:])
		}
	}
	return ids, err
}

// readSidecar returns the attributes of an object. A file that another program has put there has
// none.
func readSidecar(root *os.Root, key string, info fs.FileInfo) (store.Attributes, error) {
	ids, err := uploads(root, key)
	if err != nil {
		return store.Attributes{}, err
	}
	found, err := findSidecars(root, key, ids, info)
	if err != nil {
		return store.Attributes{}, err
	}
	if len(found) == 1 {
		for _, c := range found {
			return store.Attributes{ContentType: c.ContentType, ContentEncoding: c.ContentEncoding, Meta: c.Meta}, nil
		}
	}
	return store.Attributes{}, nil
}

// findSidecars returns the sidecar of a file, by the id of its upload. No sidecar names the inode
// of a copy, so it then returns all that have its size.
func findSidecars(root *os.Root, key string, ids []string, info fs.FileInfo) (map[string]sidecar, error) {
	sameSize := make(map[string]sidecar)
	for _, id := range ids {
		b, err := root.ReadFile(sidecarName(key, id))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var c sidecar
		if json.Unmarshal(b, &c) != nil {
			continue // of an upload that did not end: a sidecar is durable before its object
		}
		if c.describes(info) {
			return map[string]sidecar{id: c}, nil
		}
		if c.Size == info.Size() {
			sameSize[id] = c
		}
	}
	return sameSize, nil
}

// removeLeftovers removes the files of all uploads of a key except the sidecar of its object. An
// upload that still runs cannot become visible afterwards, because its part is removed before its
// sidecar.
func removeLeftovers(root *os.Root, key string) error {
	ids, err := uploads(root, key)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := ignoreMissing(root.Remove(partName(key, id))); err != nil {
			return err
		}
	}
	var keep map[string]sidecar
	switch info, err := regular(root, key); {
	case err == nil:
		if keep, err = findSidecars(root, key, ids, info); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	for _, id := range ids {
		if _, ok := keep[id]; ok {
			continue
		}
		if err := ignoreMissing(root.Remove(sidecarName(key, id))); err != nil {
			return err
		}
	}
	return nil
}

// removeUpload removes the files of one upload that did not become visible, as far as that
// succeeds: AbortUploads removes the rest.
func removeUpload(root *os.Root, key, id string) {
	if ignoreMissing(root.Remove(partName(key, id))) == nil {
		_ = root.Remove(sidecarName(key, id))
	}
}

// inode returns the inode number of a file; 0 if the file system has none.
func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}
