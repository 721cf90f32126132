// Package file is the sink that writes records to files on this host.
//
// It guarantees that the files hold each record exactly once, or, if so configured, at
// least once, whatever crashes. This comment has the proof. The parts of the sink are
// packages of their own, from the bottom up:
//
//   - disk is the file system. Tests replace it by one that fails and crashes.
//   - filename has the names of files: placeholders, reserved names, complete files.
//   - compress reads and writes compressed files.
//   - checkpoint stores the ledger of a file beside the file.
//   - writer writes one path. It implements most of what follows.
//   - retention completes and removes files that receive no more records.
//
// This package assigns partitions to writers. Start reading at [Open].
//
// # Exactly once
//
// With [sink.ExactlyOnce], the sink keeps a ledger of each file: for each partition the
// offset after the last record in the file. The durable form of the ledger is the checkpoint
// in <path>+checkpoint. It identifies the file by inode and birth time, and says up to which
// length the file is complete and durable. This is why the file holds each record once, in
// order within its partition, however often the process or the machine crashes.
//
// A flush does these steps in order, while records are appended to the file:
//
//  1. Take a flush point: the length of the file, and at the same moment the ledger.
//  2. Sync the file: everything up to the flush point is on the disk.
//  3. Write the flush point over the older of the two checkpoints in the checkpoint file,
//     and sync that file. Each checkpoint has a sequence number, and a checksum over both.
//     A crash leaves the previous checkpoint or the new one, whole; after the sync, the
//     new one.
//
// Only then the caller commits the offsets of the flush point to Kafka. So a flush syncs
// twice, and neither sync changes a name or a folder.
//
// Two invariants hold at every moment:
//
//   - I1: The durable checkpoint is true. The file that it names has at least the recorded
//     length. The bytes before that length, and the complete files before it, are durable and
//     hold exactly the records below the offsets of the ledger, each once and in order.
//     This is true after the first checkpoint, of an empty ledger. Each flush keeps it
//     true: records are only appended, in the order of their offsets; length and ledger
//     are read under the mutex that an append holds (step 1); and the bytes are durable
//     before the checkpoint is written (step 2 before step 3).
//   - I2: The committed offset is never beyond the checkpoint, because it is committed after
//     step 3. So a record that Kafka does not redeliver is in front of the length.
//
// A start locks the checkpoint file before it reads anything. It reads the newer checkpoint,
// and writes it again in the same slot, because the previous process may have crashed before
// its sync. It truncates the file to the length, and continues each partition at the offset
// in the ledger or at the committed offset, whichever is larger. The truncated records have
// offsets at or above those of the ledger, so Kafka redelivers them. The remaining records
// are below, so they are not fetched again. By I1, each record is again in the file once. If
// the start itself is interrupted, the next start does the same: truncating to the same
// length twice has the same result as once.
//
// # Which file belongs to the sink
//
// The sink writes no byte to a file before a durable checkpoint names the file, and before
// the folder with its name is synced. Otherwise a crash could bring back another file under
// the same name. A file is truncated only if it is the one in the checkpoint:
//
//   - If inode and birth time are the same, it is the file, wherever it was moved within its
//     folder. It is truncated if the bytes before the recorded length match the checkpoint.
//     If they do not match, that is an error with the next step.
//   - If the inode is another one, but the bytes before the length match, the file is a copy
//     that was restored. It is continued. Content never decides between two existing files,
//     because records may repeat.
//   - Any other file that is not empty belongs to another program, and is an error.
//
// A file that was moved, and is now locked or has a checkpoint of its own, belongs to another
// writer, and is not changed.
//
// # Files by the time of the records
//
// With {time:LAYOUT} in the path, a partition has several files, each with a writer, a checkpoint
// and a ledger of its own (windows.go). I1 holds for each of them, with the records of its window
// in place of all records. I2 holds because Flush flushes each file that was written since it was
// last flushed, and because a file is flushed before it is closed.
//
// The entry of a partition in the ledger of a file is an offset n, and a lineage. It means:
//
//   - I3: The file has the records of its window that the lineage has read below n, and no others
//     of the lineage. Records are read in the order of their offsets, and each goes to the file of
//     its window. A file that is new, or has another lineage, gets the position as n: the lineage
//     has read no record of the window below it, or its file would have the lineage.
//
// A start continues at the committed offset. By I2 and the rules of a start, what was truncated is
// read again. What a file still has is read again, too. It is below n, so the sink drops it. A chunk
// that crosses n is rejected, so that the caller reads it again up to n. A record of a later leader epoch
// than the entry has replaced the one in the file, and is written.
//
// The caller commits the lineage before the first record. Otherwise a start after a crash would
// begin another one, and write the records of the first again.
//
// # Completing a file
//
// A file that is full or old keeps its name while it grows, and gets its final name when it
// is complete. So a program that ships files can tell complete files from growing ones. The
// three steps are described in package writer, in complete.go. A crash between two steps
// leaves a file under the path that is, by inode and birth time, either the growing or the
// completed one of the checkpoint. The next start continues the first, and renames the
// second. At most one file has no final name, so the start does not have to guess.
//
// In an alternative design, the growing file has its final name from the beginning, and the
// path is a link to it. That needs no rename, but readers cannot see which file is complete.
//
// # Limits of the proof
//
// The proof assumes that a disk keeps what a sync has reported as written. Durability none
// has no syncs, so it covers crashes of the process only. A checkpoint that was stored under
// durability none says so: if a power loss has left less than it records, the sink logs a
// warning and continues the file. If something other than the sink has moved the committed
// offset, such as an operator or another host, the caller decides which offset wins, from
// the commit metadata and the [sink.Ledger].
package file
