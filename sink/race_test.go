//go:build race

package sink

// raceEnabled: under the race detector sync.Pool drops things on purpose.
const raceEnabled = true
