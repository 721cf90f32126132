// Package filewatch reports when the content of files changes, however they are
// written: in place, by renaming, through symbolic links, as a volume of Kubernetes, or
// on a file system without events. It handles bytes and their hashes;
// the caller interprets them.
//
// It guarantees:
//
//   - A change is reported within 300 ms of the last write where the file system sends
//     events, and after a poll elsewhere.
//   - A file that is being written is not reported: its content must not have changed for
//     [Options.Quiet]. A missing, empty or unreadable file must stay so a little longer,
//     because editors truncate and rename.
//   - Only a changed hash counts. Content that is reverted before it is reported does not
//     count.
//
// [File] watches one file and delivers its content; [Files] watches a changing set of
// files and delivers fingerprints. Both are a [monitor], which decides when to check the
// files (debounce.go) and gets events from an [fsWatcher], which watches each directory
// and link on the way to a file (path_trace.go). Start reading with monitor.run.
package filewatch
