package model

// An identity is stored with each object.
type identity struct{ cluster, topic, first, next int }

// A key is the key of an object, with the destination.
type key struct {
	settings                 settings
	hour, topic, first, last int
}

// noKey is the value of a placeholder that a key does not contain.
const noKey = -1

type object struct {
	key       key
	identity  identity
	records   set
	nonce     int    // of the plan; 0 if another group has put the object
	histories uint32 // in which the object counts
}

// A store holds objects by their keys.
type store struct {
	conditional bool // it has conditional writes
	objects     []object
}

func (s *store) head(k key) (int, bool) {
	for i := range s.objects {
		if s.objects[i].key == k {
			return i, true
		}
	}
	return 0, false
}

// visible returns the records of all objects that count in the history.
func (s *store) visible(history int) (all set) {
	for i := range s.objects {
		if s.objects[i].histories&(1<<history) != 0 {
			all |= s.objects[i].records
		}
	}
	return all
}
