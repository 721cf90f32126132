package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kcagent/agent/kafka"
	"kcagent/cli/command"
	"kcagent/config"
	"kcagent/config/objects"
	"kcagent/sink"
	"kcagent/sink/objects/stores"
	"kcagent/sink/template"
	"kcagent/verify"
	"kcagent/verify/kafkalog"
)

// objectsFlags are the flags of verify for objects.
type objectsFlags struct {
	spec   sink.ObjectsSpec // what the flags say
	keys   []string
	caFile string
	config string
	deep   bool
	// brokers are addresses of a cluster without TLS and SASL. Others require --config.
	brokers []string
	output  *string
}

// An objectsSource is what the arguments name.
type objectsSource struct {
	spec     sink.ObjectsSpec
	consumer *config.Consumer // whose log explains gaps; nil if it is unknown
}

// storeFlags name the flags that --config replaces, and which field of [sink.ObjectsSpec] each sets.
var storeFlags = map[string]string{
	"time-zone": "time_zone", "endpoint": "endpoint", "region": "region", "path-style": "path_style", "account": "account", "ca-file": "tls.ca_file",
}

func addObjectsFlags(c *cobra.Command) *objectsFlags {
	f := new(objectsFlags)
	flags := c.Flags()
	flags.BoolVar(&f.deep, "deep", false, "read the objects, too, not only their keys, and what the log has in gaps")
	flags.StringSliceVar(&f.brokers, "brokers", nil, "bootstrap `brokers`, host:port, whose log explains gaps; of a cluster without TLS and SASL")
	flags.StringArrayVar(&f.keys, "key", nil, "`template` of the keys, as sink.objects.key; again for a former one (default "+objects.DefaultKey+")")
	flags.StringVar(&f.spec.TimeZone, "time-zone", "UTC", "`zone` of {time:LAYOUT} in the keys")
	flags.StringVar(&f.spec.Endpoint, "endpoint", "", "`URL` of a compatible store")
	flags.StringVar(&f.spec.Region, "region", "", "`region` of an S3 bucket")
	flags.BoolVar(&f.spec.PathStyle, "path-style", false, "send the bucket in the path of requests")
	flags.StringVar(&f.spec.Account, "account", "", "storage `account` of az://")
	flags.StringVar(&f.caFile, "ca-file", "", "PEM `file` of the certificate authorities of the store")
	flags.StringVar(&f.config, "config", "", "configuration `file` with the consumer whose URL, key, credentials and cluster are used")
	f.output = outputFlag(c)
	command.CompleteYAML(c, "config")
	command.CompleteNothing(c, "brokers", "key", "time-zone", "endpoint", "region", "account")
	return f
}

// isObjectsURL reports whether an argument is a URL, and not a file. The check of the settings rejects
// unknown schemes.
func isObjectsURL(arg string) bool { return strings.Contains(arg, "://") }

// checkObjectsArgs returns an error for arguments and flags that do not fit together.
func checkObjectsArgs(c *cobra.Command, args []string, f *objectsFlags) error {
	urls := 0
	for _, arg := range args {
		if isObjectsURL(arg) {
			urls++
		}
	}
	if f.config != "" {
		for _, name := range append([]string{"brokers"}, flagNames()...) {
			if c.Flags().Changed(name) {
				return command.Usagef("--%s cannot be combined with --config, which has the setting", name)
			}
		}
		switch {
		case urls > 0:
			return command.Usagef("a URL cannot be combined with --config: name the consumer instead")
		case len(args) > 1:
			return command.Usagef("unexpected argument %q: name one consumer", args[1])
		}
		return nil
	}
	if urls > 0 && len(args) > 1 {
		return command.Usagef("unexpected argument %q: name one URL", args[1])
	}
	if urls == 0 {
		for _, name := range append([]string{"brokers", "deep", "key", "output"}, flagNames()...) {
			if c.Flags().Changed(name) {
				return command.Usagef("--%s requires the URL of objects, or --config", name)
			}
		}
	}
	return checkBrokers(f)
}

// checkBrokers returns an error for brokers that cannot be used.
func checkBrokers(f *objectsFlags) error {
	if len(f.brokers) > 0 && !f.deep {
		return command.Usagef("--brokers requires --deep")
	}
	for _, b := range f.brokers {
		if problem := config.BrokerProblem(b); problem != "" {
			return command.Usagef("invalid --brokers %q: %s", b, problem)
		}
	}
	return nil
}

func flagNames() (names []string) {
	for name := range storeFlags {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// find returns what the arguments name; nil if they name files.
func (f *objectsFlags) find(args []string) (*objectsSource, error) {
	switch {
	case f.config != "":
		return f.fromConfig(args)
	case !isObjectsURL(args[0]):
		return nil, nil
	}
	spec := f.spec
	spec.URL = args[0]
	if f.caFile != "" {
		spec.TLS = &sink.ObjectsTLS{CAFile: f.caFile}
	}
	if len(f.keys) > 0 {
		spec.Key = f.keys[0]
	}
	spec.SetDefaults()
	objects.Normalise(&spec, "{name}")
	for _, finding := range objects.Check(spec, nil) {
		if !finding.Warning {
			return nil, usageOf(finding)
		}
	}
	return &objectsSource{spec, f.anyConsumer()}, nil
}

// anyConsumer returns a consumer of the cluster of --brokers with the defaults; nil without the flag.
func (f *objectsFlags) anyConsumer() *config.Consumer {
	if len(f.brokers) == 0 {
		return nil
	}
	c := new(config.Consumer)
	c.SetDefaults()
	c.Cluster.Brokers = f.brokers
	c.Cluster.SetDefaults()
	return c
}

// usageOf returns a finding about the settings as an error about flags.
func usageOf(f objects.Finding) error {
	what := "URL"
	if f.Field == "key" {
		what = "--key"
	}
	for flag, field := range storeFlags {
		if field == f.Field {
			what = "--" + flag
		}
	}
	if f.Hint != "" {
		f.Message += "; " + f.Hint
	}
	return command.Usagef("invalid %s: %s", what, f.Message)
}

// fromConfig returns a consumer: the one that is named, or the only one with an objects sink.
func (f *objectsFlags) fromConfig(args []string) (source *objectsSource, err error) {
	if err := checkExists(f.config); err != nil {
		return nil, err
	}
	c, _, problems := config.Load(f.config, os.LookupEnv)
	if len(problems) > 0 {
		return nil, command.Usagef("read %s: %s", f.config, problems[0])
	}
	var names []string
	for i := range c.Consumers {
		one := &c.Consumers[i]
		if one.Sink.Objects == nil {
			if len(args) > 0 && one.Name == args[0] {
				return nil, command.Usagef("consumer %s has no objects sink; name its files", one.Name)
			}
			continue
		}
		names = append(names, one.Name)
		if len(args) == 0 || one.Name == args[0] {
			source = &objectsSource{*one.Sink.Objects, one}
		}
	}
	switch {
	case len(args) > 0 && !slices.Contains(names, args[0]):
		return nil, command.Usagef("consumer %q not found in %s", args[0], f.config)
	case len(names) == 0:
		return nil, command.Usagef("%s has no consumer with an objects sink; name files, or the URL of objects", f.config)
	case len(args) == 0 && len(names) > 1:
		return nil, command.Usagef("%s has several consumers with an objects sink: name one of %s", f.config, strings.Join(names, ", "))
	}
	return source, nil
}

// runVerifyObjects proves what the objects of one consumer hold.
func runVerifyObjects(ctx context.Context, io streams, source *objectsSource, f *objectsFlags, allowHoles bool) error {
	spec := source.spec
	zone, err := time.LoadLocation(spec.TimeZone)
	if err != nil {
		return command.Usagef("invalid --time-zone: %w", err)
	}
	of := verify.Objects{Deep: f.deep, Until: time.Now(), Ignore: stores.IsProbe}
	for _, text := range slices.Compact(append([]string{spec.Key}, f.keys...)) {
		key, err := template.Parse(text, zone)
		if err != nil {
			return command.Usagef("invalid --key: %w", err)
		}
		for _, name := range []string{template.Topic, template.Partition, template.First} {
			if !key.Has(name) {
				return command.Usagef("invalid --key %q: {%s} is missing", text, name)
			}
		}
		if key.Has(template.Name) {
			return command.Usagef("invalid --key: replace {name} by the name of the consumer")
		}
		of.Keys = append(of.Keys, key)
	}
	store, err := stores.Open(ctx, &spec)
	if err != nil {
		return err
	}
	defer store.Close()
	of.Store = store
	if f.deep && source.consumer != nil {
		kafka.SetUpSarama(nil)
		log := kafkalog.Open(source.consumer)
		defer log.Close()
		of.Log = log
	}
	good, err := of.Prove(ctx, verify.ObjectsReport{AllowHoles: allowHoles, JSON: *f.output == "json", Out: io.out, Notes: io.err})
	if err != nil {
		return fmt.Errorf("verify %s: %w", spec.URL, err)
	}
	if !good {
		return command.Reported(command.Failure)
	}
	return nil
}
