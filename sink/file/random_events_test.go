package file

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"

	"kcagent/sink"
	"kcagent/sink/compress"
)

// rename does what logrotate does, without faults.
func (s *history) rename() {
	path := strings.ReplaceAll(s.spec.Path, "{partition}", fmt.Sprint(s.random.IntN(historyPartitions)))
	if s.fs.File(path) == nil {
		return
	}
	s.moved++
	create := s.random.IntN(2) == 0
	fault := s.setFault(nil)
	_ = s.fs.Rename(path, fmt.Sprintf("%s.%d", path, s.moved))
	if create {
		_, _ = s.fs.OpenFile(path, 0o100, 0o600) // O_CREATE
	}
	s.setFault(fault)
	s.logf("rename %s %v", path, create)
}

// remove deletes a growing file, without faults. Flushed records in it are gone. It flushes
// first, because after a failed checkpoint it is unknown what is flushed.
func (s *history) remove() {
	fault := s.setFault(nil)
	defer func() { s.setFault(fault) }()
	s.flush()
	s.write()
	path := strings.ReplaceAll(s.spec.Path, "{partition}", fmt.Sprint(s.random.IntN(historyPartitions)))
	for _, w := range s.sink.(*fileSink).writers() {
		if w.Path != path {
			continue
		}
		_ = w.InspectFlushed(s.Context(), func(inode uint64, flushed int64) {
			i := s.fs.File(path)
			if i == nil || i.ID != inode {
				return
			}
			data := i.Data[:flushed]
			c, _ := compress.Sniff(bytes.NewReader(data))
			for _, v := range values(s.T, sink.Raw, unpack(s.T, c, data)) {
				v, _ = strings.CutSuffix(v, padding)
				s.removed[v]++
			}
			_ = s.fs.Remove(path)
			_ = s.fs.SyncDir(filepath.Dir(path))
			s.logf("remove %s, flushed %d", path, len(data))
		})
	}
}
