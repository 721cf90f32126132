package store

import (
	"fmt"
	"strings"
)

// SplitURL splits SCHEME://bucket/prefix, and returns false for a URL of another scheme or without a
// bucket. It does not decode percent signs.
func SplitURL(url, scheme string) (bucket, prefix string, ok bool) {
	rest, ok := strings.CutPrefix(url, scheme+"://")
	bucket, prefix, _ = strings.Cut(rest, "/")
	return bucket, prefix, ok && bucket != ""
}

// ParseURL splits a URL of the form SCHEME://bucket/prefix for a store. The prefix is that of all keys,
// so that it is empty or ends with a slash.
func ParseURL(url, form string) (bucket, prefix string, err error) {
	scheme, _, _ := strings.Cut(form, ":")
	bucket, prefix, ok := SplitURL(url, scheme)
	if !ok {
		return "", "", fmt.Errorf("invalid url: use %s", form)
	}
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
	}
	return bucket, prefix, nil
}
