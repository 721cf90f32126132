package config

import (
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"kcagent/config/objects"
	"kcagent/config/strictyaml"
	"kcagent/sink"
	"kcagent/sink/file/filename"
	"kcagent/sink/template"
)

// checkConflicts applies the rules that concern two consumers: names are unique, no two
// consumers are the same static member, and no file and no object has two writers.
func (p *parser) checkConflicts(entries []entry) {
	names := make(map[string]*entry)
	members := make(map[string]*entry) // static ones
	var files pathTree
	stores := make(map[string]*pathTree) // the objects by destination
	for i := range entries {
		e := &entries[i]
		if first := names[e.consumer.Name]; first != nil && e.consumer.Name != "" {
			p.doc.ReportField(e.node, e.path, "name", "duplicate name "+strconv.Quote(e.consumer.Name),
				fmt.Sprintf("first used in line %d", first.node.Line))
		} else {
			names[e.consumer.Name] = e
		}
		if c := e.consumer; c.InstanceID != "" {
			id := strings.Join(append([]string{c.Group, c.InstanceID}, c.Cluster.Brokers...), "\n")
			if first := members[id]; first != nil {
				p.doc.ReportField(e.node, e.path, "instance_id", fmt.Sprintf("consumers %q and %q would be the same member of group %s", first.consumer.Name, c.Name, c.Group),
					"give one of them another instance_id, or a group of its own")
			}
			members[id] = e
		}
		for _, f := range filesOf(e) {
			p.addFile(&files, f)
		}
		if o := e.consumer.Sink.Objects; o != nil {
			p.addObjects(stores, e, *o)
		}
	}
}

// addObjects adds the objects of a consumer to the tree of their destination, or reports that
// another consumer could write the same objects.
func (p *parser) addObjects(stores map[string]*pathTree, e *entry, o sink.ObjectsSpec) {
	destination, paths := objects.Paths(o, e.consumer.Topics)
	if stores[destination] == nil {
		stores[destination] = new(pathTree)
	}
	var patterns [][]pattern
	for _, elements := range paths {
		patterns = append(patterns, patternsOf(elements, template.Overlap))
	}
	if other, _ := stores[destination].add(&writtenFile{entry: e}, patterns); other != nil {
		p.doc.ReportField(e.node, e.path, "sink.objects.url",
			fmt.Sprintf("consumers %q and %q may write the same objects", other.consumer.Name, e.consumer.Name),
			fmt.Sprintf("that consumer begins in line %d; use a url of its own for each consumer, for example with {name}", other.node.Line))
	}
}

// A writtenFile is a file that a consumer may write.
type writtenFile struct {
	*entry
	key  string // of the path in the entry
	file string // the path, with placeholders
}

// filesOf lists the files of a consumer that have a path.
func filesOf(e *entry) (files []writtenFile) {
	for i, s := range e.consumer.Sinks() {
		if s.File != nil && s.File.Path != "" {
			files = append(files, writtenFile{e, [...]string{"sink.file.path", deadLetterFile + ".path"}[i], s.File.Path})
		}
	}
	return files
}

// addFile adds a file to the tree, or reports its conflict with another one.
func (p *parser) addFile(files *pathTree, f writtenFile) {
	switch other, folder := files.add(&f, pathsOf(&f)); {
	case other == nil:
	case folder:
		p.doc.ReportField(f.node, f.path, f.key,
			fmt.Sprintf("conflicts with %s of consumer %q: a folder of one path may be the file of the other", other.file, other.consumer.Name),
			fmt.Sprintf("that consumer begins in line %d; use another folder", other.node.Line))
	default:
		p.doc.ReportField(f.node, f.path, f.key,
			"consumer "+strconv.Quote(other.consumer.Name)+" may write the same file "+other.file,
			fmt.Sprintf("that consumer begins in line %d; use a path of its own for each consumer, for example with {name}", other.node.Line))
	}
}

// warnSharedGroups adds a warning for each group that several consumers share, at the second
// one, because sharing a group is allowed but often a mistake. It
// does not count stopped consumers, which are not members, and static members, which share a
// group on purpose.
func (p *parser) warnSharedGroups(entries []entry) {
	groups := make(map[string][]*entry)
	var second []*entry
	for i := range entries {
		c := &entries[i].consumer
		if c.State == Stopped || c.InstanceID != "" {
			continue
		}
		key := strings.Join(append([]string{c.Group}, c.Cluster.Brokers...), "\n")
		if groups[key] = append(groups[key], &entries[i]); len(groups[key]) == 2 {
			second = append(second, &entries[i])
		}
	}
	for _, e := range second {
		members := groups[strings.Join(append([]string{e.consumer.Group}, e.consumer.Cluster.Brokers...), "\n")]
		first := members[0].consumer
		effect := "each record reaches only one of them"
		if !slices.Equal(first.Topics, e.consumer.Topics) || first.TopicsRegex != e.consumer.TopicsRegex {
			effect = "a rebalance of one interrupts the others"
		}
		p.doc.Warn(strictyaml.Find(e.node, "group"), e.path+".group",
			fmt.Sprintf("%d consumers share the group %s, such as %q and %q: %s", len(members), e.consumer.Group, first.Name, e.consumer.Name, effect),
			"give each its own group, such as {name}, or leave group out")
	}
}

// A pathTree holds the files or objects that consumers may write, by the elements of their
// paths. No placeholder stands for a slash, so a path has as many elements as its
// pattern, and two paths meet if their elements do, one by one. A thousand
// consumers are a million pairs: the tree compares only elements that begin alike.
//
// The files beside a data file need no place in the tree. The names of all of them
// contain a plus sign. [filename.CheckPath] rejects a data file with one, and a folder
// with such a name, and neither topics nor names of consumers can contain one.
type pathTree struct{ root pathNode }

type pathNode struct {
	pattern
	file     *writtenFile         // that may be here
	below    *writtenFile         // a file that needs a folder here
	byText   map[string]*pathNode // the children
	children []*pathNode          // sorted by their heads
}

// A pattern is an element of a path that may hold placeholders.
type pattern struct {
	text       string
	head, tail string                 // before the first and after the last placeholder
	overlap    func(a, b string) bool // of the texts of two elements
}

func patternsOf(elements []string, overlap func(a, b string) bool) (patterns []pattern) {
	for _, e := range elements {
		p := pattern{e, e, e, overlap}
		if open := strings.IndexByte(e, '{'); open >= 0 {
			p.head, p.tail = e[:open], e[strings.LastIndexByte(e, '}')+1:]
		}
		patterns = append(patterns, p)
	}
	return patterns
}

func (p pattern) meets(o pattern) bool {
	return p.text == o.text || (strings.HasPrefix(p.head, o.head) || strings.HasPrefix(o.head, p.head)) &&
		(strings.HasSuffix(p.tail, o.tail) || strings.HasSuffix(o.tail, p.tail)) && p.overlap(p.text, o.text)
}

// add enters a file, which may have any of the paths. If another file may be the same, it enters
// nothing and returns the other one; with folder, one of the two paths needs a folder where the
// other one needs a file.
func (t *pathTree) add(f *writtenFile, paths [][]pattern) (other *writtenFile, folder bool) {
	for _, path := range paths {
		if other, folder = t.root.find(path); other != nil {
			return other, folder
		}
	}
	for _, path := range paths {
		t.root.insert(path, f)
	}
	return nil, false
}

// find looks for a path that conflicts with the one whose rest below n is given.
func (n *pathNode) find(rest []pattern) (other *writtenFile, folder bool) {
	switch {
	case n.file != nil:
		return n.file, len(rest) > 0
	case len(rest) == 0:
		return n.below, true
	}
	for child := range n.meeting(rest[0]) {
		if other, folder = child.find(rest[1:]); other != nil {
			return other, folder
		}
	}
	return nil, false
}

// meeting yields the children that may have the same name as the element. The head of
// one of the two must begin with that of the other.
func (n *pathNode) meeting(element pattern) iter.Seq[*pathNode] {
	return func(yield func(*pathNode) bool) {
		for length := range len(element.head) + 1 {
			head := element.head[:length]
			for at := n.search(head); at < len(n.children); at++ {
				child := n.children[at]
				same := child.head == head
				longer := length == len(element.head) && strings.HasPrefix(child.head, head)
				if !same && !longer {
					break
				}
				if element.meets(child.pattern) && !yield(child) {
					return
				}
			}
		}
	}
}

// search returns the index of the first child with a head.
func (n *pathNode) search(head string) int {
	at, _ := slices.BinarySearchFunc(n.children, head, func(c *pathNode, head string) int { return strings.Compare(c.head, head) })
	return at
}

func (n *pathNode) insert(rest []pattern, f *writtenFile) {
	for _, element := range rest {
		n.below = f
		n = n.child(element)
	}
	n.file = f
}

// child returns the node for an element, a new one if there is none.
func (n *pathNode) child(p pattern) *pathNode {
	if child := n.byText[p.text]; child != nil {
		return child
	}
	child := &pathNode{pattern: p}
	if n.byText == nil {
		n.byText = make(map[string]*pathNode)
	}
	n.byText[p.text] = child
	n.children = slices.Insert(n.children, n.search(p.head), child)
	return child
}

// pathsOf returns the elements of each path that f may stand for, with topics filled in if
// they are known.
func pathsOf(f *writtenFile) [][]pattern {
	path := filename.TimePattern(absolute(f.file))
	paths := []string{path}
	if topics := f.consumer.Topics; len(topics) > 0 && strings.Contains(path, "{topic}") {
		paths = nil
		for _, topic := range topics {
			paths = append(paths, strings.ReplaceAll(path, "{topic}", topic))
		}
	}
	overlap := func(a, b string) bool { return filename.Overlap(a, nil, b, nil) }
	split := make([][]pattern, len(paths))
	for i, p := range paths {
		split[i] = patternsOf(strings.Split(strings.TrimPrefix(p, "/"), "/"), overlap)
	}
	return split
}

// absolute makes two spellings of one path equal. It follows no links: their targets may
// change, and the lock on the file protects it.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
