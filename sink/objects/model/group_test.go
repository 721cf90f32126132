package model

// agents is the number of agents; the last one is the fresh agent of the end.
const agents = 4

// A token is what the coordinator knows a member by. Each agent is a static member, so its number
// is its instance id.
type token struct{ generation, member int }

// A plan names a range whose records are published together, as in the metadata of a commit.
type plan struct {
	nonce          int
	cluster, topic int
	first, next    int
	settings       settings
}

func (p plan) identity() identity { return identity{p.cluster, p.topic, p.first, p.next} }

// settings decide about keys and records.
type settings struct {
	destination int
	hourly      bool // the key contains the hour
}

// A commit is an offset with the metadata of an agent, or of another tool.
type commit struct {
	offset         int
	ours           bool // the metadata is that of an agent
	nonce          int
	cluster, topic int
	planned        bool
	plan           plan
}

// A group is the state of the consumer group at its coordinator.
type group struct {
	generation int
	members    [agents]int // member id of each agent; 0 if it is not a member
	lastMember int
	owner      int // the agent that is assigned the partition
	exists     bool
	committed  commit // if exists
}

// accepts reports whether the coordinator accepts a commit with the token. It does not check which
// member is assigned the partition.
func (g *group) accepts(t token) bool {
	if t.generation != g.generation {
		return false
	}
	for _, m := range g.members {
		if m != 0 && m == t.member {
			return true
		}
	}
	return false
}

func (g *group) empty() bool { return g.members == [agents]int{} }

func (g *group) openPlan() bool { return g.exists && g.committed.planned }

func (g *group) newMember() int {
	g.lastMember++
	return g.lastMember
}
