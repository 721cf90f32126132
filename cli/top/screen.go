package top

import (
	"errors"
	"fmt"
	"os"

	"github.com/gdamore/tcell/v3"
	"github.com/gdamore/tcell/v3/color"
	"golang.org/x/term"

	"kcagent/cli/statustable"
)

// errNoTerminal is the error without a terminal to draw on.
var errNoTerminal = errors.New("open terminal: stdin and stdout must be a terminal; use kcagent status --watch instead")

// onTerminal reports whether the process runs on a terminal with a full-screen mode.
func onTerminal() bool {
	return term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("TERM") != "dumb"
}

// openScreen starts the full-screen mode of the terminal.
func openScreen() (tcell.Screen, error) {
	tty, err := tcell.NewStdIoTty()
	if err != nil {
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	return newScreen(tty)
}

func newScreen(tty tcell.Tty) (tcell.Screen, error) {
	tcell.SetEncodingFallback(tcell.EncodingFallbackASCII) // a locale without UTF-8 is not an error
	// Without negotiation, terminals that do not answer queries cause no wait.
	screen, err := tcell.NewTerminfoScreenFromTty(tty, tcell.OptSanitizeContent(true), tcell.OptNegotiation(false))
	if err == nil {
		err = screen.Init()
	}
	if err != nil {
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	screen.RegisterRuneFallback('…', "~")
	return screen, nil
}

// colours are in the palette of the terminal.
var colours = map[colour]color.Color{
	red: color.XTerm1, green: color.XTerm2, yellow: color.XTerm3, cyan: color.XTerm6,
}

// draw shows the lines.
func draw(screen tcell.Screen, lines []line) {
	coloured := screen.Colors() > 0 && os.Getenv("NO_COLOR") == ""
	screen.Clear()
	for y, l := range lines {
		x := 0
		for _, s := range l {
			st := tcell.StyleDefault.Bold(s.style.bold).Dim(s.style.dim).Reverse(s.style.reverse)
			if c, ok := colours[s.style.colour]; ok && coloured {
				st = st.Foreground(c)
			}
			screen.PutStrStyled(x, y, s.text, st)
			x += statustable.ColumnsOf(s.text)
		}
	}
	screen.HideCursor()
	screen.Show()
}

var keys = map[tcell.Key]string{
	tcell.KeyUp: "up", tcell.KeyDown: "down", tcell.KeyLeft: "left", tcell.KeyRight: "right",
	tcell.KeyPgUp: "pgup", tcell.KeyPgDn: "pgdn", tcell.KeyHome: "home", tcell.KeyEnd: "end",
	tcell.KeyEnter: "enter", tcell.KeyEscape: "esc", tcell.KeyBackspace: "backspace", tcell.KeyDEL: "backspace",
	tcell.KeyCtrlC: "ctrl-c", tcell.KeyCtrlL: "ctrl-l", tcell.KeyCtrlU: "ctrl-u",
}

// keyOf returns the name of a key for the model.
func keyOf(e *tcell.EventKey) string {
	if e.Modifiers()&(tcell.ModAlt|tcell.ModCtrl|tcell.ModMeta) != 0 && e.Key() == tcell.KeyRune {
		return ""
	}
	if e.Key() == tcell.KeyRune {
		return e.Str()
	}
	return keys[e.Key()]
}
