// Package file is the sink that writes records to files on this host.
//
// It guarantees that a file holds each record exactly once, or, if so configured, at least
// once, whatever crashes. This comment has the argument. The parts of the sink are packages
// of their own, from the bottom up:
//
//   - disk is the file system, which tests replace by one that fails and crashes.
//   - filename has the names of files: placeholders, reserved names, complete files.
//   - compress reads and writes compressed files.
//   - checkpoint stores the ledger of a file beside the file.
//   - writer writes one path; most of the argument below is about it.
//   - retention completes and removes files that receive no more records.
//
// This package routes partitions to writers. Start reading at [Open].
//
// # Exactly once in a file
//
// A file sink with [ExactlyOnce] keeps a ledger of its file: for each partition the
// offset after the last record in the file. Its durable form is the checkpoint in
// <path>+checkpoint, which says which file holds the records, by inode and birth time,
// and up to which length the file is complete and safe. This is why the file then holds
// each record once, in order within its partition, whatever crashes, the process or the
// machine, and however often.
//
// A flush does these steps in order, while records are appended to the file:
//
//  1. mark: note the file's length and, at the same moment, the ledger.
//  2. sync the file: everything up to the mark is on the disk.
//  3. write the mark over the older of the two checkpoints in the side file, and sync
//     that. Each has a sequence number and a checksum over both, so of the former
//     checkpoint and the new one a crash leaves one, whole, and from now on the new one.
//
// Only then the caller commits the offsets of the mark to the broker. So a flush
// syncs twice; neither sync changes a name or a folder.
//
// Two invariants hold at every moment:
//
//   - I1: the durable checkpoint is true. The first length bytes of the file it
//     names, and the complete files before it, are durable and hold exactly the
//     records below its offsets, each once and in order. True after the first
//     checkpoint, of an empty ledger; kept by each flush, for the file is only
//     appended to, in the order in which the offsets grow, length and offsets are
//     noted under the lock that an append holds (1), and the bytes are durable
//     before the checkpoint is written (2 before 3).
//   - I2: the committed offset never passes the checkpoint, for it is committed
//     after (3). So a record that the broker will not bring again is in front of
//     the length.
//
// A start locks the side file before it looks at anything, reads the newer checkpoint
// and makes that durable once more where it is, for the process before may have died
// before its sync. It cuts the file to the length, and continues at the offsets of the
// ledger or at the committed ones, whichever are further. What was cut off has
// offsets at or above the checkpoint's, so Kafka brings it again; what stays is below
// them, so Kafka is not asked for it. By I1 each record is in the file once again. If
// the start itself is interrupted, the next one does the same: cutting twice to the
// same length is cutting once.
//
// # Which file is whose
//
// No byte is written to a file before a durable checkpoint names it, and before the
// folder that names the file is synced: else a crash could bring back another file
// under the same name. A file is cut only if it is the one in the checkpoint:
//
//   - The same inode and birth time: it is the file, wherever it was moved within its
//     folder. It is cut if it holds what the checkpoint says in front of the length; if
//     it does not, that is an error with the next step.
//   - Another inode, but what the checkpoint says in front of the length: a copy that was
//     restored. It is continued. Content is never looked at to tell two files apart that
//     both exist: records may repeat.
//   - Anything else that is not empty is another program's file, and an error.
//
// A file that was moved, and lies beside a checkpoint or is locked, is another writer's
// by now and is left alone.
//
// # Completing a file
//
// A file that is full or old keeps its name while it grows, and gets its final name when
// it is complete, so that whatever ships files can tell the two apart. Three steps, each
// durable before the next has consequences: the file is synced; a checkpoint says that it
// is done and that no file grows; it is renamed, never over another file. The next file
// is created with the next record. A crash between the steps leaves the path naming a
// file that is either still the growing one of the checkpoint, or the done one, by inode
// and birth time; the next start continues the first, and renames the second. Only one
// file is without its final name at any time, so there is nothing to guess. The other
// design, to give the growing file its final name at birth and let the path be a link to
// it, needs no rename, but leaves readers unable to see which file is complete.
//
// # Where the argument ends
//
// It ends where the machine does: a disk that loses what a sync reported as written, and
// durability none, which leaves out the syncs and so covers crashes of the process alone.
// A checkpoint that was stored under durability none says so: if a power loss has left
// less than it says, that is a warning and the file is continued. Which offset wins if
// something else moved the group's, an operator or another host, is decided by the caller
// from the metadata of the commit and the [Ledger].
package file
