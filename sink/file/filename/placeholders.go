package filename

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"kcagent/sink"
)

// topicPlaceholder and partitionPlaceholder are replaced for each partition.
const (
	topicPlaceholder     = "{topic}"
	partitionPlaceholder = "{partition}"
)

// HasPlaceholders reports whether the path differs between partitions, topics or times.
func HasPlaceholders(path string) bool {
	return slices.ContainsFunc([]string{topicPlaceholder, partitionPlaceholder, timePrefix, wordPlaceholder, numberPlaceholder},
		func(p string) bool { return strings.Contains(path, p) })
}

// HasTime reports whether the path has {time:LAYOUT}.
func HasTime(path string) bool { return strings.Contains(path, timePrefix) }

// timePrefix begins a placeholder that package template replaces.
const timePrefix = "{time:"

// wordPlaceholder and numberPlaceholder replace the parts of a path that change with time. Only
// [TimePattern] returns them.
const (
	wordPlaceholder   = "{word}"
	numberPlaceholder = "{number}"
)

var timePlaceholder = regexp.MustCompile(`\{time:([^{}]*)\}`)

// longest is the time with the longest text, on a Wednesday in September. Each letter of the text of
// other differs from it.
var (
	longest = time.Date(2026, 9, 30, 22, 58, 59, 0, time.UTC)
	other   = time.Date(2026, 5, 8, 1, 1, 1, 0, time.UTC)
)

// atTime replaces {time:LAYOUT} by the text of a time.
func atTime(path string, at time.Time) string {
	return timePlaceholder.ReplaceAllStringFunc(path, func(found string) string {
		return at.Format(timePlaceholder.FindStringSubmatch(found)[1])
	})
}

// TimePattern replaces {time:LAYOUT} by a pattern that matches all its texts, and maybe others. The
// result has as many elements as each path that it matches.
func TimePattern(path string) string {
	return timePlaceholder.ReplaceAllStringFunc(path, func(found string) string {
		layout := timePlaceholder.FindStringSubmatch(found)[1]
		words := letters.FindAllString(other.Format(layout), -1)
		i := -1
		text := letters.ReplaceAllStringFunc(longest.Format(layout), func(word string) string {
			if i++; i < len(words) && words[i] == word {
				return word
			}
			return wordPlaceholder
		})
		return numbers.ReplaceAllString(text, numberPlaceholder)
	})
}

var (
	letters = regexp.MustCompile(`[A-Za-z]+`)
	numbers = regexp.MustCompile(`[0-9]+`)
)

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
	expr = strings.ReplaceAll(expr, regexp.QuoteMeta(wordPlaceholder), "[a-zA-Z]+")
	expr = strings.ReplaceAll(expr, regexp.QuoteMeta(numberPlaceholder), "[0-9]+")
	return regexp.MustCompile("^" + expr + "$")
}
