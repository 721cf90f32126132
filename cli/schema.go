package cli

import (
	"context"
	"flag"

	"kcagent/config"
)

func schemaCommand(_ context.Context, io streams, flags *flag.FlagSet, args []string) error {
	if err := parse(io, flags, args); err != nil {
		return err
	}
	_, err := io.out.Write(config.Schema())
	return err
}
