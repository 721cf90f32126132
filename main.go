// Kcagent keeps a set of Kafka consumers as one YAML file says.
package main

import (
	"os"

	"kcagent/cli"
)

func main() { os.Exit(cli.Run(os.Args[1:], os.Stdout, os.Stderr)) }
