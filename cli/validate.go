package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"kcagent/agent/kafka"
	"kcagent/agent/precheck"
	"kcagent/cli/command"
	"kcagent/config"
	"kcagent/config/filewatch"
	"kcagent/sink/file"
	"kcagent/sink/file/filename"
)

func newValidate() *cobra.Command {
	c := &cobra.Command{
		Use:   "validate",
		Short: "validate a file, and with --online also its brokers, topics, groups and sinks",
		Long: `
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
		Example: "kcagent validate --config consumers.yaml --online",
	}
	command.Exits(c, "the file is valid", "the result cannot be printed", "the file has problems, or invalid usage")
	var file string
	configFlag(c, &file, "configuration `file` to validate, the same as the argument")
	command.FileArg(c, &file)
	online := c.Flags().Bool("online", false, "also check brokers, topics, groups and sinks")
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return runValidate(c.Context(), streamsOf(c), file, *online, *output)
	}
	return c
}

// runValidate validates a file. The problems are its result and go to stdout, one per line
// or as JSON. The summary goes to stderr, and so do warnings unless the output is JSON.
func runValidate(ctx context.Context, io streams, file string, online bool, output string) error {
	c, _, problems := config.Load(file, os.LookupEnv)
	if len(problems) == 0 && online {
		problems = probe(ctx, file, c)
	}
	var warnings config.Problems
	if len(problems) == 0 {
		warnings = slices.Concat(c.Warnings, blankSecrets(file, c), takeovers(file, c))
	}
	if err := printProblems(io, output, problems, warnings); err != nil {
		return err
	}
	if len(problems) > 0 {
		return command.Usagef("%s: %s", file, count(len(problems), "problem"))
	}
	fmt.Fprintf(io.err, "%s: valid, %s\n", file, count(len(c.Consumers), "consumer"))
	return nil
}

// probe runs the pre-check of each consumer, and returns its errors as problems of the
// file.
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
	printWarnings(io, warnings)
	for _, p := range problems {
		if _, err := fmt.Fprintln(io.out, p); err != nil {
			return err
		}
	}
	return nil
}

func printWarnings(io streams, warnings config.Problems) {
	for _, w := range warnings {
		fmt.Fprintln(io.err, "warning: "+w.String())
	}
}

// blankSecrets warns of files with a secret that begin or end with a blank. The newline at
// their end is not part of the secret. A file that cannot be read is left to the pre-check:
// it may be on another host.
func blankSecrets(file string, c *config.Config) config.Problems {
	var warnings config.Problems
	for _, name := range slices.Sorted(maps.Keys(c.Clusters)) {
		files := c.Clusters[name].Files()
		for _, field := range slices.Sorted(maps.Keys(files)) {
			if strings.HasPrefix(field, "tls.") || strings.HasSuffix(field, ".ca_file") {
				continue
			}
			data, _, err := filewatch.ReadFile(files[field])
			secret := strings.TrimRight(string(data), "\r\n")
			if err != nil || strings.TrimSpace(secret) == secret {
				continue
			}
			warnings = append(warnings, config.NewLocator(file).Locate("clusters."+name+"."+field,
				"the file begins or ends with a blank", "remove the blank if it is not part of the secret; a newline at the end is ignored"))
		}
	}
	return warnings
}

// groupOf is [file.GroupOf]; tests replace it.
var groupOf = file.GroupOf

// maxCheckpoints is how many checkpoints of one consumer are read. Almost always, one group
// has written all of its files.
const maxCheckpoints = 100

// takeovers warns of consumers whose files on this host hold records of another group,
// usually because an entry was renamed. Their group does not continue where the file ends,
// and may write the same records to it again.
func takeovers(file string, c *config.Config) config.Problems {
	var warnings config.Problems
	var finder filename.Finder
	var locator *config.Locator
	for i, consumer := range c.Consumers {
		path, group, n := otherGroup(&finder, &consumer)
		if n == 0 {
			continue
		}
		if locator == nil {
			locator = config.NewLocator(file)
		}
		which := path + " holds"
		if n > 1 {
			which = fmt.Sprintf("%s and %d other %s hold", path, n-1, plural(n-1, "file"))
		}
		warnings = append(warnings, locator.Locate(fmt.Sprintf("consumers[%d].sink.file.path", i),
			fmt.Sprintf("%s records of group %s: group %s does not continue there and may write the same records again", which, group, consumer.Group),
			"set group: "+group+" to continue, or use another path"))
	}
	return warnings
}

// otherGroup returns the first file of a consumer that holds records of another
// group, that group, and how many files hold records of others.
func otherGroup(finder *filename.Finder, c *config.Consumer) (path, group string, n int) {
	f := c.Sink.File
	if f == nil {
		return "", "", 0
	}
	reads := func(string) bool { return true }
	if re, err := regexp.Compile(c.TopicsRegex); err == nil && c.TopicsRegex != "" {
		reads = re.MatchString
	}
	for _, p := range finder.Checkpointed(f.Path, c.Topics, reads, maxCheckpoints) {
		switch g, ok := groupOf(p); {
		case !ok || g == c.Group:
		case n == 0:
			path, group, n = p, g, 1
		default:
			n++
		}
	}
	return path, group, n
}
