// Package model is a model of the protocol by which the objects sink puts each record into exactly
// one object. It consists of tests, and imports nothing of the program: it states the protocol a
// second time, so that a mistake in one of them shows.
//
// # The protocol
//
// Before an object becomes visible, its worker commits the unchanged offset with a plan: the range
// [first, next) and all settings that decide about keys and records. Only then it uploads the objects
// and commits next. A successor that finds a plan completes it. A [commit] without a plan is written
// (a, -), one with a plan (a, plan [a,b)). The coordinator accepts a commit by its [token]; a
// nonce distinguishes the commits of two workers. The constants of type rule list the rules.
//
// # What is modelled
//
// One partition of one group: three agents that crash, restart, hang and rejoin as static members; the
// coordinator with generations, member ids and metadata, which does not check who is assigned the
// partition; a log with transactions, control records, retention and compaction; topics that are
// recreated, with their offsets kept or deleted; a mirror of the cluster; a store with and without
// conditional writes; another group on the same prefix; an operator who resets offsets and edits the
// destination and the key. Requests arrive late, out of order, or never; responses are lost, or are
// errors although the request took effect. At the end the faults stop, a fresh agent finishes, half
// of the requests on their way arrive before it and half after it, and then all zombies continue.
//
// The invariants: no record is in two objects of one history (a reset, and another topic, begin one);
// each committed record below the committed offset is visible, unless it was removed from the log
// first; what is visible stays visible; no object of a plan that was never accepted; no record of an
// aborted transaction; the fresh agent finishes.
//
// # What is argued only
//
// Real time, multipart uploads, the size of metadata, leader elections, dead letters, clones of a
// running process, and a pause. Retention and compaction together with a store without conditional
// writes are excluded where a PUT may be late, because a shorter object can then replace a longer one.
// A reset and an expiry with an open plan are excluded, because they erase it.
//
// # How to run it
//
//	go test ./sink/objects/model -run 'Holds|Redundant' -schedules 5000000 -timeout 1h
//	go test ./sink/objects/model -run NoState -late 2 -generations 3 -timeout 1h
//	go test ./sink/objects/model -run EachRule -v
//
// The first runs more random schedules, the second visits more states, the third shows the shortest
// schedule that was found without each rule.
//
// # How to read a violation
//
// The test removes events from the schedule as long as it violates the same invariant, and prints
// what happens, one event a line. A, B and C are agents, D is the fresh one. B#3 is the fourth worker
// in all: the work of agent B for one assignment. /1/hour=0/3-5-topic2 is the key of an object at
// destination 1, with the records of hour 0 from offset 3 to 5 of topic 2. The number of a schedule is its seed,
// so it is the same in each run.
package model
