// Package offsets decides where a partition resumes. [Decide] is a pure function of the
// committed offset, the sink's ledger, the identity of the topic and the policies; each
// sentence of docs/offsets.md is a row of its test. [Metadata] is what is committed with
// each offset, and [Baseline] records how many partitions a topic had when the group first
// read it, because the start policy applies to these only.
//
// The commit metadata also has the names of topics that do not exist yet: after a restart
// there is no other record that they were added later.
package offsets
