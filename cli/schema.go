package cli

import (
	"context"
	"flag"

	"kcagent/config"
)

var schemaCommand = command{
	name:    "schema",
	summary: "print the JSON Schema of the file, for editors",
	details: `
The schema is a little more lenient than validate, which also checks rules that a schema
cannot express.`,
	example: "kcagent schema > consumers.schema.json",
	run:     runSchema,
}

func runSchema(_ context.Context, io streams, flags *flag.FlagSet, args []string) error {
	if err := parse(io, flags, args); err != nil {
		return err
	}
	_, err := io.out.Write(config.Schema())
	return err
}
