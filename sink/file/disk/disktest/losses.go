package disktest

import (
	"maps"
	"slices"
)

// A loss says what a crash of the machine leaves of what was not synced.
type loss struct {
	Name  string
	names func(changes int) int                           // how many of the changes of names are durable
	data  func(id uint64, onDisk, inMemory []byte) []byte // the durable content of a file
}

// Losses are the losses with which tests crash the machine.
var Losses = []loss{
	{"the process dies", func(n int) int { return n }, func(_ uint64, _, m []byte) []byte { return m }},
	{"nothing unsynced stays", func(int) int { return 0 }, func(_ uint64, d, _ []byte) []byte { return d }},
	{"names stay", func(n int) int { return n }, func(_ uint64, d, _ []byte) []byte { return d }},
	{"data stays", func(int) int { return 0 }, func(_ uint64, _, m []byte) []byte { return m }},
	{"half of all stays", func(n int) int { return n / 2 }, func(_ uint64, d, m []byte) []byte {
		same := 0
		for same < min(len(d), len(m)) && d[same] == m[same] {
			same++
		}
		half := same + (len(m)-same)/2
		return slices.Concat(m[:half], d[min(half, len(d)):])
	}},
	{"names but one, zeros for data", func(n int) int { return max(0, n-1) }, func(_ uint64, d, m []byte) []byte {
		z := make([]byte, len(m))
		copy(z, d)
		return z
	}},
	{"every other piece of the data stays", func(n int) int { return n }, func(_ uint64, d, m []byte) []byte {
		mixed := make([]byte, max(len(m), len(d)))
		copy(mixed, d)
		for at := 0; at < len(m); at += 32 {
			copy(mixed[at:], m[at:min(at+16, len(m))])
		}
		return mixed[:len(m)]
	}},
	{"the data of every other file stays", func(n int) int { return n }, func(id uint64, d, m []byte) []byte {
		if id%2 == 0 {
			return m
		}
		return d
	}},
	{"the data of the other files stays", func(n int) int { return n / 2 }, func(id uint64, d, m []byte) []byte {
		if id%2 == 1 {
			return m
		}
		return d
	}},
}

// Crash returns the file system as the next process finds it.
func (f *MemoryFS) Crash(l loss) *MemoryFS {
	next := NewMemoryFS()
	next.LastInode, next.created, next.FaultReads = f.LastInode, f.created, f.FaultReads
	for _, do := range f.since[:l.names(len(f.since))] {
		do(f.onDisk)
	}
	copies := make(map[*MemoryInode]*MemoryInode)
	for path, i := range f.onDisk {
		if i == nil {
			continue
		}
		if copies[i] == nil {
			data := slices.Clip(l.data(i.ID, i.OnDisk, i.Data)) // the next process appends to a copy
			copies[i] = &MemoryInode{ID: i.ID, born: i.born, Data: data, OnDisk: data, mode: i.mode}
		}
		next.Files[path] = copies[i]
	}
	next.onDisk = maps.Clone(next.Files)
	return next
}
