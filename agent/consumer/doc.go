// Package consumer runs one consumer: its states, its faults, and its membership in the
// group. [Consumer] is created once for an entry of the file; each Run is one start.
// One goroutine owns the state (state_machine.go) and derives it from the events of the
// others. Another one joins the group and runs one generation after the other (member.go,
// join.go); the end of each generation decides what the member does next (outcome.go).
//
// # Rules
//
//   - The event joined clears all faults, so a generation sends it before it starts the
//     tasks that report faults.
//   - The group object is kept during outages. A new one would be a new member, which has to
//     wait until the broker has removed the old one: 45 s, and a broker that was down counts
//     from its return.
//   - A static member that rejoins gets its former assignment, whatever its new subscription
//     says. It leaves and rejoins if the assignment has a topic that its file does not name.
//   - A static member whose instance ID another agent has taken waits until it is free: if it
//     rejoined, it would fence the other one, which would do the same. It leaves by its own
//     member ID, never by instance ID alone.
//   - The coordinator does not report to a restarted static leader that it is the leader
//     (KAFKA-13435), and the leader gets its former assignment. So every static member checks
//     whether each partition has a member, and the first one that finds one without leaves
//     and rejoins.
//   - 12 s after a stop began, the consumer's connections are closed: sarama's requests
//     cannot be cancelled, but they end with their connection.
package consumer
