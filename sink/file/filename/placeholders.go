package filename

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"kcagent/sink"
)

// topicPlaceholder and partitionPlaceholder are replaced for each partition.
const (
	topicPlaceholder     = "{topic}"
	partitionPlaceholder = "{partition}"
)

// HasPlaceholders reports whether the path differs between partitions or topics.
func HasPlaceholders(path string) bool {
	return strings.Contains(path, topicPlaceholder) || strings.Contains(path, partitionPlaceholder)
}

// Expand replaces the placeholders. It rejects a topic whose name could lead to another
// folder, although Kafka allows no such name.
func Expand(path string, tp sink.TopicPartition) (string, error) {
	if tp.Topic == "" || tp.Topic == "." || tp.Topic == ".." || strings.ContainsAny(tp.Topic, "/\\\x00") {
		return "", fmt.Errorf("write topic %q: its name cannot be part of a path", tp.Topic)
	}
	fill := strings.NewReplacer(
		topicPlaceholder, tp.Topic,
		partitionPlaceholder, strconv.Itoa(int(tp.Partition)),
	)
	return fill.Replace(path), nil
}

func fillTopics(path string, topics []string) []string {
	if topics == nil || !strings.Contains(path, topicPlaceholder) {
		return []string{path}
	}
	filled := make([]string, len(topics))
	for i, t := range topics {
		filled[i] = strings.ReplaceAll(path, topicPlaceholder, t)
	}
	return filled
}

// Pattern returns an expression that matches the names for which an element of a path
// stands. Its first group, if any, is the topic.
func Pattern(element string) *regexp.Regexp {
	expr := regexp.QuoteMeta(element)
	expr = strings.ReplaceAll(expr, regexp.QuoteMeta(partitionPlaceholder), "[0-9]+")
	expr = strings.Replace(expr, regexp.QuoteMeta(topicPlaceholder), "([a-zA-Z0-9._-]+)", 1)
	expr = strings.ReplaceAll(expr, regexp.QuoteMeta(topicPlaceholder), "[a-zA-Z0-9._-]+")
	return regexp.MustCompile("^" + expr + "$")
}
