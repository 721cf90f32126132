package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestMemory(t *testing.T) {
	for _, conditional := range []bool{true, false} {
		t.Run(fmt.Sprintf("conditional %t", conditional), func(t *testing.T) {
			TestStore(t, func(*testing.T) *Target {
				return &Target{Store: NewMemory(conditional), Conditional: conditional}
			})
		})
	}
}

func TestFaults(t *testing.T) {
	m := NewMemory(true)
	late := make(chan struct{})
	for _, c := range []struct {
		name    string
		fault   Fault
		visible bool
	}{
		{"fails", Fault{Before: ErrFault}, false},
		{"response is lost", Fault{After: ErrFault}, true},
		{"late", Fault{After: ErrFault, Late: late}, false},
	} {
		s := m.Again(func(context.Context, Call) Fault { return c.fault })
		if err := s.Put(t.Context(), c.name, strings.NewReader("x"), 1, attributes); !errors.Is(err, ErrFault) {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, _, ok := m.Content(c.name); ok != c.visible {
			t.Errorf("%s: the object is visible: %t", c.name, ok)
		}
	}
	close(late)
	m.Wait()
	if _, _, ok := m.Content("late"); !ok {
		t.Error("the delayed object is not visible")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := m.Again(func(ctx context.Context, _ Call) Fault { <-ctx.Done(); return Fault{Before: ctx.Err()} })
	if _, err := s.Head(ctx, "late"); !errors.Is(err, context.Canceled) {
		t.Errorf("a call that hangs: %v", err)
	}
}
