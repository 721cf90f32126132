package cli

import (
	"fmt"
	"regexp"

	"kcagent/config"
	"kcagent/sink/file"
	"kcagent/sink/file/filename"
)

// groupOf is [sink.GroupOf]; another one in tests.
var groupOf = file.GroupOf

// maxCheckpoints is how many checkpoints of one consumer are read: nearly always
// one group has written all of its files.
const maxCheckpoints = 100

// takeovers warns of consumers whose files on this host hold records of another
// group, most often since an entry was renamed. Their group does not continue
// where the file ends, and may write the same records into it again.
func takeovers(file string, c *config.Config) config.Problems {
	var warnings config.Problems
	var finder filename.Finder
	var locator *config.Locator
	for i, consumer := range c.Consumers {
		path, group, n := otherGroup(&finder, &consumer)
		if n == 0 {
			continue
		}
		if locator == nil {
			locator = config.NewLocator(file)
		}
		which := path + " holds"
		if n > 1 {
			which = fmt.Sprintf("%s and %d other %s hold", path, n-1, plural(n-1, "file"))
		}
		warnings = append(warnings, locator.Locate(fmt.Sprintf("consumers[%d].sink.file.path", i),
			fmt.Sprintf("%s records of group %s: group %s does not continue there and may write the same records again", which, group, consumer.Group),
			"set group: "+group+" to continue, or use another path"))
	}
	return warnings
}

// otherGroup returns the first file of a consumer that holds records of another
// group, that group, and how many files hold records of others.
func otherGroup(finder *filename.Finder, c *config.Consumer) (path, group string, n int) {
	f := c.Sink.File
	if f == nil {
		return "", "", 0
	}
	reads := func(string) bool { return true }
	if re, err := regexp.Compile(c.TopicsRegex); err == nil && c.TopicsRegex != "" {
		reads = re.MatchString
	}
	for _, p := range finder.Checkpointed(f.Path, c.Topics, reads, maxCheckpoints) {
		switch g, ok := groupOf(p); {
		case !ok || g == c.Group:
		case n == 0:
			path, group, n = p, g, 1
		default:
			n++
		}
	}
	return path, group, n
}
