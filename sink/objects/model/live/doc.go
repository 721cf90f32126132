// Package live runs the events of the model of the plan protocol against the program itself: real
// consumers with the objects sink, an embedded Kafka broker, and a store in memory with faults. It
// consists of tests.
//
// A process is a consumer that can crash: from then on none of its requests has an effect. Each call
// of the store and each commit has a fate: it fails before its effect, or after it, it arrives late, or
// the process crashes there. TestEveryCrashIsRepaired tries each call in turn, with each fate.
// TestRandomFaultsRepeatAndLoseNothing draws the fates of three processes, with rebalances.
package live
