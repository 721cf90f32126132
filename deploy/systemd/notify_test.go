package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"kcagent/cli/command"
	"kcagent/e2e/agenttest"
	"kcagent/e2e/certs"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// A service is an agent that sends its state to a socket of the test, as to systemd's.
type service struct {
	t     *testing.T
	agent *agenttest.Agent
	url   string // for ExecReload
	dir   string
	// environment has further variables for ExecReload.
	environment []string
	brokers     string
	messages    chan string
	last        string // of the messages that were read
	status      string // the last STATUS of them
}

// start starts an agent as the unit does, with a watchdog of this many microseconds, on a
// broker with one topic.
func start(t *testing.T, watchdogUsec int, consumers string) *service {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return startOn(t, cluster.ListenAddrs()[0], watchdogUsec, consumers)
}

// startOn starts an agent on the brokers at an address, with further flags.
func startOn(t *testing.T, brokers string, watchdogUsec int, consumers string, flags ...string) *service {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the binary")
	}
	s := &service{t: t, dir: t.TempDir(), brokers: brokers, messages: make(chan string, 10000)}
	socket := filepath.Join(s.dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan struct{})
	go func() {
		defer close(received)
		for buffer := make([]byte, 4096); ; {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			s.messages <- string(buffer[:n])
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-received
	})
	s.agent = agenttest.Launch(t, agenttest.Options{
		Args: flags, Config: s.config(consumers), Path: filepath.Join(s.dir, "consumers.yaml"),
		Through: []string{
			"env", "NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=" + strconv.Itoa(watchdogUsec),
			"sh", "-c", `WATCHDOG_PID=$$ exec "$0" "$@"`,
		},
	})
	s.url = s.agent.URL
	return s
}

// config is a file with consumers.
func (s *service) config(consumers string) string {
	return fmt.Sprintf("defaults: {brokers: [%q], topics: [t], sink: {file: {path: %q}}}\nconsumers:\n%s\n",
		s.brokers, filepath.Join(s.dir, "{name}.jsonl"), consumers)
}

// want waits for a message with a text, and returns it.
func (s *service) want(text string) string {
	s.t.Helper()
	s.read(text, func() bool { return strings.Contains(s.last, text) })
	return s.last
}

// wantStatus waits until the newest STATUS is text.
func (s *service) wantStatus(text string) {
	s.t.Helper()
	if s.status != text {
		s.read(text, func() bool { return s.status == text })
	}
}

// read reads messages until they are enough.
func (s *service) read(what string, enough func() bool) {
	s.t.Helper()
	wait.For(s.t, wait.Timeout, what, func() error {
		for {
			select {
			case s.last = <-s.messages:
				if _, status, ok := strings.Cut(s.last, "STATUS="); ok {
					s.status, _, _ = strings.Cut(status, "\n")
				}
				if enough() {
					return nil
				}
			default:
				return fmt.Errorf("the last message is %q, the status %q", s.last, s.status)
			}
		}
	})
}

// reload runs the commands of ExecReload one after the other, as systemd does.
func (s *service) reload(ctx context.Context) (stderr string, err error) {
	s.t.Helper()
	variables := strings.NewReplacer("$MAINPID", strconv.Itoa(s.agent.Pid()))
	commands := settings(s.t, unitFile)["ExecReload"]
	if len(commands) == 0 {
		s.t.Fatal("the unit has no ExecReload")
	}
	for _, c := range commands {
		args := strings.Fields(variables.Replace(c))
		for i, a := range args {
			args[i] = strings.NewReplacer("/usr/bin/kcagent", agenttest.Binary(s.t), "/etc/kcagent/consumers.yaml", s.agent.Path).Replace(a)
		}
		var log strings.Builder
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env, cmd.Stderr = append(append(os.Environ(), "KCAGENT_URL="+s.url), s.environment...), &log
		if err := cmd.Run(); err != nil {
			return log.String(), fmt.Errorf("%s: %w", c, err)
		}
	}
	return "", nil
}

func (s *service) reloads() {
	s.t.Helper()
	if stderr, err := s.reload(s.t.Context()); err != nil {
		s.t.Errorf("%v\n%s", err, stderr)
	}
}

// TestAgentReportsToSystemd: its start, states, edits, reloads and end, with pings between them.
func TestAgentReportsToSystemd(t *testing.T) {
	t.Parallel()
	s := start(t, 200_000, "- {name: a}\n- {name: b, state: paused}")
	if first := s.want("="); !strings.HasPrefix(first, "READY=1\nSTATUS=2 consumers: ") && first != "WATCHDOG=1" {
		t.Errorf("the first message is %q", first)
	}
	s.wantStatus("2 consumers: 1 running, 1 paused; configuration accepted")
	s.want("WATCHDOG=1")

	s.agent.Write(s.config("- {name: a}\n- {name: b, state: stopped}"))
	s.wantStatus("2 consumers: 1 running, 1 stopped; configuration accepted")
	s.agent.Write(s.config("- {name: a, topcs: [t]}"))
	s.wantStatus("2 consumers: 1 running, 1 stopped; configuration rejected: 1 problem, the previous one is in force")
	s.want("WATCHDOG=1")

	s.agent.Write(s.config("- {name: a}"))
	s.agent.Signal(syscall.SIGHUP)
	s.want("RELOADING=1\nMONOTONIC_USEC=")
	s.want("READY=1")
	s.want("WATCHDOG=1")
	s.agent.Signal(syscall.SIGTERM)
	s.want("STOPPING=1\nEXTEND_TIMEOUT_USEC=32000000\nSTATUS=shutting down")
	if code := s.agent.WaitExit(wait.Timeout); code != command.Success {
		t.Errorf("exit %d", code)
	}
}

// TestOutageOfKafkaDelaysNoStart and no reload: consumers in ERROR do not count.
func TestOutageOfKafkaDelaysNoStart(t *testing.T) {
	t.Parallel()
	s := startOn(t, "127.0.0.1:"+strconv.Itoa(kafkatest.FreePort(t)), 60_000_000, "- {name: a}")
	s.want("READY=1")
	s.wantStatus("1 consumer: 1 in error; configuration accepted")
	s.reloads()
	s.agent.Write(s.config("- {name: a}\n- {name: b, state: paused}"))
	s.reloads()
	if got := s.agent.Status().Config; got.FileSHA256 != got.SHA256 || got.SHA256 != agenttest.Sum(s.config("- {name: a}\n- {name: b, state: paused}")) {
		t.Errorf("the reload succeeded with %+v", got)
	}
}

// TestReloadCommandsWaitForTheVerdict: the commands of ExecReload succeed when the file on disk
// is accepted, and fail with its problems when it is rejected.
func TestReloadCommandsWaitForTheVerdict(t *testing.T) {
	t.Parallel()
	s := start(t, 60_000_000, "- {name: a}")
	good, bad, other := s.config("- {name: a, state: paused}"), s.config("- {name: a, topcs: [t]}"), s.config("- {name: a, stat: paused}")
	s.want("READY=1")
	s.reloads() // unchanged
	for range 2 {
		s.agent.Write(good)
		s.reloads()
		if sum := s.agent.Status().Config.SHA256; sum != agenttest.Sum(good) {
			t.Errorf("the reload ended with %s in force", sum)
		}
		for text, problem := range map[string]string{bad: "consumers[0].topcs: unknown key", other: "consumers[0].stat: unknown key"} {
			s.agent.Write(text)
			for range 2 { // also without another edit
				stderr, err := s.reload(t.Context())
				if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != command.Failure {
					t.Errorf("%s: %v", problem, err)
				}
				if !strings.Contains(stderr, s.agent.Path+":3:13:") || !strings.Contains(stderr, problem) {
					t.Errorf("%s: stderr is\n%s", problem, stderr)
				}
			}
		}
	}
	s.agent.Write(good) // the revert of a rejected edit
	s.reloads()
	if err := os.Remove(s.agent.Path); err != nil {
		t.Fatal(err)
	}
	if stderr, err := s.reload(t.Context()); err == nil || !strings.Contains(stderr, "file not found") {
		t.Errorf("without the file: %v\n%s", err, stderr)
	}
}

// TestReloadLogsIn: with TLS and a password for the API, KCAGENT_URL and SSL_CERT_FILE are enough.
func TestReloadLogsIn(t *testing.T) {
	t.Parallel()
	authority := certs.NewAuthority(t, "authority")
	pair, dir := authority.Issue(t, "kcagent"), t.TempDir()
	for name, text := range map[string][]byte{
		"ca.crt": authority.PEM, "tls.crt": pair.Cert, "tls.key": pair.Key,
		"web.yaml": []byte("tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n" +
			"basic_auth_users: {ops: '$2a$04$jo0LaMtne0yBRPmuUloy/.mAwlXtYLEE57moJsKlWe/ktl0LrybTG'}\n"), // of sesame
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := startOn(t, "127.0.0.1:1", 60_000_000, "- {name: a}", "--web.config.file", filepath.Join(dir, "web.yaml"))
	s.want("READY=1")
	s.url = strings.Replace(s.agent.URL, "http://", "https://ops:sesame@", 1)
	s.environment = []string{"SSL_CERT_FILE=" + filepath.Join(dir, "ca.crt")}
	s.reloads()
}

// TestEveryVariableOfTheUnitHasAValue: systemd replaces an unknown variable by nothing.
func TestEveryVariableOfTheUnitHasAValue(t *testing.T) {
	unit, known := settings(t, unitFile), settings(t, defaultFile)
	for _, name := range []string{"ExecStart", "ExecReload"} {
		for word := range strings.FieldsSeq(strings.Join(unit[name], " ")) {
			_, variable, ok := strings.Cut(word, "$")
			variable = strings.Trim(variable, "{}")
			if ok && variable != "MAINPID" && len(known[variable]) == 0 {
				t.Errorf("%s uses %s, which %s does not set", name, word, defaultFile)
			}
		}
	}
	if !slices.Contains(unit["Documentation"], "man:kcagent(1)") {
		t.Errorf("Documentation is %q", unit["Documentation"])
	}
}
