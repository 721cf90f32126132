// Package logkey has the keys of log attributes. One key has one meaning in all messages,
// so that a search and a dashboard find it everywhere; docs/log-messages.md is generated from
// the comments.
package logkey

// The keys, in alphabetical order.
const (
	Action        = "action"         // operation of a change, such as replace
	AddedLater    = "added_later"    // partitions that were added after the group started to read the topic
	Before        = "before"         // number of topics before
	Broker        = "broker"         // address of a broker
	Bytes         = "bytes"          // size in bytes
	Cause         = "cause"          // text of the error
	Causes        = "causes"         // number of different causes, if the line has only one of them
	Cluster       = "cluster"        // name of the cluster in the file, or its brokers
	Committed     = "committed"      // committed offset, -1 if there is none
	Consumer      = "consumer"       // name of the consumer
	Consumers     = "consumers"      // number of consumers
	Cost          = "cost"           // what the change costs, such as a rebalance
	Diverging     = "diverging"      // first offset at which the log of the leader may have other records, unknown if there is none
	Durability    = "durability"     // durability that the file sink is set to
	End           = "end"            // offset after the last record of the log
	Epoch         = "epoch"          // leader epoch of the position
	Error         = "error"          // text of the error
	ExpectedBytes = "expected_bytes" // size that the file should have, in bytes
	Fields        = "fields"         // keys of the configuration file that cause the change, separated by commas
	First         = "first"          // offset of the first record of the log
	FoundBytes    = "found_bytes"    // size that the file has, in bytes
	From          = "from"           // former state or offset
	Gap           = "gap"            // number of offsets between the former and the current position
	Generation    = "generation"     // generation of the group
	Group         = "group"          // consumer group
	InFile        = "in_file"        // offset after the last record of the partition in the file, -1 if there is none
	InstanceID    = "instance_id"    // id of a static member
	Interval      = "interval"       // duration between two checks
	Lag           = "lag"            // records between the position and the end of the log
	Lasted        = "lasted"         // how long a condition lasted
	Lasts         = "lasts"          // how long a condition has lasted so far
	LeaderEpoch   = "leader_epoch"   // leader epoch of the log
	MemberID      = "member_id"      // id of the member in the group
	Message       = "message"        // text of a library's log
	Mode          = "mode"           // permissions of a file, in octal digits
	NextStep      = "next_step"      // what the operator can do
	NextTryIn     = "next_try_in"    // duration until the next attempt
	Now           = "now"            // number of topics now
	Offset        = "offset"         // offset
	Partition     = "partition"      // number of the partition
	Partitions    = "partitions"     // number of partitions
	Path          = "path"           // path of a file
	Paths         = "paths"          // paths of files
	Planned       = "planned"        // number of records of a plan
	Policy        = "policy"         // value of on_offset_out_of_range
	Position      = "position"       // offset of the next record that the consumer reads
	PreviousGroup = "previous_group" // consumer group that wrote the file before
	Problem       = "problem"        // a problem of the configuration file, with its position
	Problems      = "problems"       // number of problems of the configuration file
	Reason        = "reason"         // why it happened
	Records       = "records"        // number of records
	SHA256        = "sha256"         // SHA-256 of the configuration file, in hex
	Sink          = "sink"           // kind and target of the sink
	Start         = "start"          // start policy of the consumer
	Timeout       = "timeout"        // duration after which the agent does not wait any longer
	To            = "to"             // current state, offset or path
	Topic         = "topic"          // topic
	Tries         = "tries"          // number of pre-checks
	Trigger       = "trigger"        // what caused the check of a file: start, signal, event, poll or confirm
)
