package file

import (
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk"
)

// GroupOf returns the consumer group in the checkpoint of a data file. ok is false if there
// is no readable checkpoint. GroupOf locks and changes nothing.
func GroupOf(path string) (group string, ok bool) {
	if real, err := (disk.OS{}).Resolve(path); err == nil {
		path = real
	}
	c, err := checkpoint.Read(disk.OS{}, path)
	if err != nil || c == nil {
		return "", false
	}
	return c.Group, true
}
