//go:build race

package file

// raceEnabled: under the race detector, sync.Pool drops items on purpose.
const raceEnabled = true
