package cli

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"kcagent/agent/kafka"
	"kcagent/agent/precheck"
	"kcagent/config"
)

var validateHelp = command{
	name:    "validate",
	summary: "validate a file, and with --online also what it names",
	details: `
Problems go to stdout, in the order of the file:

  FILE:LINE:COLUMN: KEY: MESSAGE
    hint: NEXT STEP

With --online the command also runs the pre-check of each consumer: the brokers are
reachable and accept the credentials, the topics exist, the group can be joined, and the
sink is writable. Warnings go to stderr and do not change the exit code.

With --output json stdout is one object, and warnings are part of it:

  {"valid": false,
   "problems": [{"file": "", "line": 0, "column": 0, "path": "", "message": "", "hint": ""}],
   "warnings": []}`,
	exits: []exit{
		{exitGood, "the file is valid"},
		{exitFailure, "the result cannot be printed"},
		{exitUsage, "the file has problems, or invalid usage"},
	},
	example: "kcagent validate --config consumers.yaml --online",
	run:     validateCommand,
}

// validateCommand checks a file. The problems are its result and go to stdout,
// one a line (or as JSON); the summary goes to stderr, and so do warnings, which
// leave the file valid, unless the output is JSON.
func validateCommand(ctx context.Context, io streams, flags *flag.FlagSet, args []string) error {
	file := flags.String("config", "consumers.yaml", "configuration `file` to validate")
	online := flags.Bool("online", false, "also check brokers, topics, groups and sinks")
	output := outputFlag(flags)
	if err := parse(io, flags, args); err != nil {
		return err
	}
	if err := checkOneOf("output", *output, "text", "json"); err != nil {
		return err
	}
	c, _, problems := config.Load(*file, os.LookupEnv)
	if len(problems) == 0 && *online {
		problems = probe(ctx, *file, c)
	}
	var warnings config.Problems
	if len(problems) == 0 {
		warnings = takeovers(*file, c)
	}
	if err := printProblems(io, *output, problems, warnings); err != nil {
		return err
	}
	if len(problems) > 0 {
		fmt.Fprintf(io.err, "kcagent validate: %s: %d %s\n", *file, len(problems), plural(len(problems), "problem"))
		return errReported{exitUsage}
	}
	fmt.Fprintf(io.err, "%s: good, %d %s\n", *file, len(c.Consumers), plural(len(c.Consumers), "consumer"))
	return nil
}

// probe turns what the cluster and the sinks say into problems of the file.
func probe(ctx context.Context, file string, c *config.Config) config.Problems {
	kafka.SetUpSarama(nil)
	index := make(map[string]int, len(c.Consumers))
	for i, consumer := range c.Consumers {
		index[consumer.Name] = i
	}
	var problems config.Problems
	locator := config.NewLocator(file)
	for _, f := range precheck.Probe(ctx, c.Consumers) {
		path := fmt.Sprintf("consumers[%d].%s", index[f.Consumer], f.Field)
		problems = append(problems, locator.Locate(path, f.Consumer+": "+f.Err.Error(), ""))
	}
	return problems
}

// A problemReport is what the command prints as JSON.
type problemReport struct {
	Valid    bool            `json:"valid"`
	Problems config.Problems `json:"problems"`
	Warnings config.Problems `json:"warnings"`
}

func printProblems(io streams, output string, problems, warnings config.Problems) error {
	if output == "json" {
		enc := json.NewEncoder(io.out)
		enc.SetIndent("", "  ")
		return enc.Encode(problemReport{len(problems) == 0, append(config.Problems{}, problems...), append(config.Problems{}, warnings...)})
	}
	for _, w := range warnings {
		fmt.Fprintln(io.err, "warning: "+w.String())
	}
	for _, p := range problems {
		if _, err := fmt.Fprintln(io.out, p); err != nil {
			return err
		}
	}
	return nil
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}
