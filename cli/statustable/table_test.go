package statustable

import "testing"

func TestNumbersHaveAtMostFiveCharacters(t *testing.T) {
	for n, want := range map[float64]string{
		0: "0", 0.04: "0.0", 7: "7", 12.34: "12.3", 123.4: "123", 999: "999", 1000: "1.0k", 12_345: "12.3k", 999_949: "1000k",
		1e6: "1.0M", 98_765_432_100: "98.8G", 5e15: "5000T",
	} {
		if got := figure(n); got != want {
			t.Errorf("%v is %q, want %q", n, got, want)
		}
	}
}
