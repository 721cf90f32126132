package store

import "testing"

func TestURLsAreSplit(t *testing.T) {
	for _, tt := range []struct {
		url, bucket, prefix string
		valid               bool
	}{
		{"s3://lake", "lake", "", true},
		{"s3://lake/", "lake", "", true},
		{"s3://lake/kafka", "lake", "kafka/", true},
		{"s3://lake/kafka/a b%20/", "lake", "kafka/a b%20/", true},
		{"s3:///kafka", "", "", false},
		{"s3://", "", "", false},
		{"s3:lake", "", "", false},
		{"gs://lake/kafka", "", "", false},
	} {
		bucket, prefix, err := ParseURL(tt.url, "s3://bucket/prefix")
		if bucket != tt.bucket || prefix != tt.prefix || (err == nil) != tt.valid {
			t.Errorf("%s: %q, %q, %v", tt.url, bucket, prefix, err)
		}
	}
}
