// Package objects is the objects sink: it publishes each record in exactly one object of an object
// store. This comment is the design of the protocol, and the argument why it holds.
//
// # States
//
// (a, –) is a committed offset a without a plan, (a, P) one with a plan in its commit metadata. A plan
// names a range of offsets [a, b), and all settings that decide about keys and records. A range of one
// partition passes these states:
//
//	grows     Write appends to the spool. The group has (a, –).
//	closed    The range is complete, and ends at b. The sink looks up its keys in the store.
//	probed    No key is used by other records. Plan returns (a, P[a,b)).
//	planned   The group has (a, P). Publish starts the uploads.
//	uploaded  Each object is acknowledged, or was seen. Plan returns (b, –), or (b, P[b,c)) if the
//	          next range is probed.
//	published The group has b. The sink drops the range, and removes its files.
//
// The next owner of the partition finds one of two forms of the committed offset. With (a, –), no
// record at or after a is visible, and a range begins at a. With (a, P), some objects of P may be
// visible, or become visible later. The agent then calls Complete, and reads exactly [a, b) by the
// settings of the plan. The sink uploads what is missing under the same keys.
//
// With at_least_once there is no plan: a closed range is uploaded at once, then b is committed.
//
// # Rules
//
// Each rule is followed by what happens without it. A is the first owner of a partition, B its
// successor; [0,2) are the offsets 0 and 1.
//
//	 1  The plan is committed before any byte is visible.
//	    A's upload of [0,5) is late, A crashes, B closes its range at 3: 0 to 2 are repeated.
//	 2  An upload begins after the success of the agent's own commit of the plan.
//	    A is fenced while its plan is in flight, and uploads [0,2). B plans [0,3).
//	 3  The committed offset is read after the generation began.
//	    B reads (0, –), then A's plan is accepted; B plans [0,2).
//	 4  A plan that the group has is completed, and never replaced, not even by the agent that
//	    committed it.
//	    A plans [0,1) and crashes, B plans [0,3), then A's late upload arrives.
//	 5  A commit carries the generation and member id of the assignment, not later ones.
//	    A's plan overwrites that of B, although the partition has moved to B.
//	 6  While the result of a commit is unknown, nothing is committed or published.
//	    A copy of (0, –) that was late erases a plan whose upload has begun. That holds for a commit
//	    that was sent again after an error response, too: the nonce that is read back may be that of
//	    its first copy, so the member always leaves and rejoins then.
//	 7  b is committed after every object is acknowledged or seen.
//	    A range has two objects, one is uploaded, b is committed, A crashes: the other is lost.
//	 8  All metadata has cluster and topic id; a plan applies if both, and its first offset, match.
//	    The topic is recreated, and the plan of the former topic is completed with new records.
//	 9  The plan has all settings that decide about keys and records, and the destination.
//	    A plans with one template, B completes with another: the records are in both objects.
//	10  {first} and {last} come from the plan, and {time} from the records.
//	    Retention removes record 0, and B uploads 1 under a key of its own.
//	11  The key has the topic id.
//	    The topic is recreated, and the key belongs to an object of the former topic.
//	12  The identity of an object that exists is checked, always.
//	    Another group uses the prefix: the sink takes its shorter object for its own.
//	13  The sink looks up the key in the store before each upload.
//	    Without conditional writes, a shorter copy replaces an object after retention.
//	14  A range ends at most at the last stable offset, and has committed records only.
//	    A record of a transaction is uploaded, and the transaction is aborted.
//	15  The completion of a plan ends by position, not by record.
//	    The last record of the plan was compacted: the completion never ends.
//	16  A start offset is committed before the first record is read.
//	    With latest, a crash before the first plan moves the start.
//
// This package keeps 1, 2, 4, 7, 9, 10, 12, 13 and 15. The template of the user keeps 11; the group's
// client and package agent/generation keep the others. Rules 11 to 13 overlap on purpose: if one of them
// fails, another one leads to an error.
//
// # Why each record is in exactly one object
//
// Consider the sequence of commits that the coordinator has accepted for a partition. Commits are
// fenced by the generation (3, 5), so each is made by an owner that has seen the one before it, and a
// plan is only followed by its own completion (4, 6). So the offsets of this sequence are the ends of
// ranges without gaps or overlaps, and each range has at most one plan.
//
// No record is in two objects: an object is uploaded only for a plan of this sequence (1, 2). Two
// ranges share no record. Within a range, a record has one key, because the key follows from the plan
// and the record alone (9, 10), and the records follow from the plan and the log (14, 15). Two uploads
// of the same object, by any owners, at any time, have the same key, the same identity and the same
// records.
//
// No record is missing: the sequence passes a record only with the end of its range, and that is
// committed after all objects of the range were acknowledged, or found with the identity of the range
// (7, 12). The first range begins at the committed start (16).
//
// The schedules of interest:
//
//   - Crash. Before the plan, nothing is visible, and the records are read again. After it, the
//     successor completes the plan. After the uploads, it finds the objects and commits b.
//   - Zombie: a former owner that continues, because it has received no error yet. If
//     its plan was rejected, or the result was lost, it does not upload (2). If its plan was
//     accepted, the owner that completes the plan uploads the same objects. Its later commits are
//     rejected.
//   - Rebalance, and several agents: the flush at the end of a generation plans, uploads and commits
//     as much as the time allows. The rest is an open plan, or is read again.
//   - An edit while a plan is open: the plan has the settings of its range. Credentials, encryption,
//     tags and the storage class come from the present configuration; no key depends on them. If it
//     names another server, the server of the plan gets none of the last three: it may reject them.
//   - A reset by an operator. The offset has no metadata of an agent, so no plan applies, and a range
//     begins there. See the limits.
//   - A recreated topic has another topic id: plan and offset do not apply (8), and {topic_id} leads
//     to other keys (11). Without it, the probe finds the object of the former topic before the plan
//     is committed, which is an error that an edit resolves. Records are fetched by the name of their
//     topic. So the agent requests the id again before it commits a plan, and before the sink gets the
//     last records of a plan that was found.
//   - A store without conditional writes: the sink looks up each key before the upload (13). So an
//     upload can only replace an object of the same range that became visible after the lookup.
//
// # Ranges, windows and rotation
//
// A range is closed when an object has rotate.size, when its first record was accepted rotate.every
// ago, or when the newest timestamp of the partition has moved by rotate.every since the first record.
// Late records do not change the newest timestamp, and timestamps in the future count as the present.
// Flush with all closes every range that has a record. If the clock was set back to before the first
// record was accepted, the range is closed, too.
//
// A plan names a contiguous range, because that keeps it small and of constant size. So the objects of
// several windows of {time:LAYOUT} are closed together: late records make a further object of their
// window in the same range. A record of a 33rd window closes the range before it. Windows whose keys
// are the same, such as the hour that daylight saving time repeats, have one object.
//
// A range without records has no objects, and needs no plan. It continues to grow, or Flush with all
// moves the committed offset to its end. kcagent verify shows it as a gap between two keys.
//
// A partition has at most two ranges: one that is closed, and one that grows. Once both are closed,
// Limits returns false until the first is published.
//
// # Objects
//
// The identity of an object is in its metadata: cluster, topic id, topic, partition, first and last
// offset of the plan. It also has the number of its records, the version of the agent and the
// consumer. A name has the prefix kcagent and only letters and digits, the characters that all stores
// allow: Azure requires identifiers.
//
// Objects have no Content-Encoding, and the content type of what they are: application/gzip,
// application/zstd, application/x-ndjson or text/plain. With Content-Encoding: gzip, browsers and many
// HTTP clients, Go's among them, decompress what they download, and leave the name with .gz. Users of
// Vector's and Fluent Bit's S3 sinks, which set it, report objects that gunzip does not read
// (vectordotdev/vector#6241, fluent/fluent-bit#3676); Google Cloud Storage decompresses such objects
// when they are downloaded. Tools such as Athena, Spark, DuckDB, zcat and zstdcat use the extension.
//
// # The spool
//
// Objects grow in files, see package spool, so that neither memory nor descriptors depend on the
// number of partitions. Uploads stream from there, four at a time in the process. Uploads that take
// longer than 5 s, and those to servers that do not respond, have limits of their own, so that they
// delay no others; each server has four. The spool is not part of any guarantee: when a file is lost,
// the partition is resumed, and its records are read from Kafka again.
//
// If the disk of the spool is full, the chunk is not accepted, and all ranges of the consumer that have
// records become due: their files are removed once they are published. Uploads need no space on the
// disk.
//
// # Limits
//
//   - A reset of committed offsets while a plan is open erases the plan. Records can then be repeated,
//     even if the offset stays the same. A pause or stop before completes the plan, if the store
//     responds in time.
//   - A reset backwards repeats records as requested, in objects that overlap. A range with the same
//     first and last offset is found in the store, and is not written again.
//   - Retention or compaction that removes records before their upload is a loss. It is logged, with
//     numbers, when a plan is completed. Without conditional writes, a shorter copy can replace a full
//     object that becomes visible between the lookup and the upload.
//   - If another program removes an object while its upload is retried, the object is uploaded again.
//   - Groups that share a prefix find the objects of each other if their ranges are equal.
//   - The destination of a plan, and credentials for it, are required until the plan is completed.
//   - A crash can leave unfinished uploads. The successor aborts those under the keys of the plan; a
//     lifecycle rule of the bucket removes the others.
//   - Dead letters are written at least once.
package objects
