// Command print prints the licenses of what the binary contains besides the code of kcagent.
// The Dockerfile runs it; package licenses has the details.
package main

import (
	"fmt"
	"os"

	"kcagent/deploy/licenses"
)

func main() {
	text, err := licenses.Text(".")
	if err == nil {
		_, err = os.Stdout.Write(text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "print licenses:", err)
		os.Exit(1)
	}
}
