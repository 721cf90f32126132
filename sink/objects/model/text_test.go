package model

import "fmt"

func name(who int) string { return string(rune('A' + who)) }

func names(members [agents]int) (text string) {
	for i, m := range members {
		if m != 0 {
			text += name(i)
		}
	}
	if text == "" {
		return "none"
	}
	return text
}

func (k *worker) String() string { return fmt.Sprintf("%s#%d", name(k.agent), k.id) }

func (o *object) String() string {
	return fmt.Sprintf("%v (%d records of [%d,%d) of topic %d)", o.key, o.records.size(), o.identity.first, o.identity.next, o.identity.topic)
}

func (k key) String() string {
	text := fmt.Sprintf("/%d/", k.settings.destination)
	if k.settings.hourly {
		text += fmt.Sprintf("hour=%d/", k.hour)
	}
	text += fmt.Sprint(k.first)
	if k.last != noKey {
		text += fmt.Sprintf("-%d", k.last)
	}
	if k.topic != noKey {
		text += fmt.Sprintf("-topic%d", k.topic)
	}
	return text
}

func (c commit) String() string {
	if !c.planned {
		return fmt.Sprintf("(%d, -)", c.offset)
	}
	return fmt.Sprintf("(%d, plan [%d,%d))", c.offset, c.plan.first, c.plan.next)
}
