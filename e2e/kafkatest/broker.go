package kafkatest

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"kcagent/e2e/process"
)

// stopGrace limits a clean shutdown of a broker.
const stopGrace = 20 * time.Second

// A Broker is one node of a cluster.
type Broker struct {
	id, port   int
	securePort int    // used if there is a listener with TLS
	advertised string // the address that Options.Advertise returned
	dir, jars  string
	flags      []string         // of the JVM, in addition to those of every broker
	proc       *process.Process // nil before the first launch
}

// Addr returns the address of the plaintext listener, host:port.
func (b *Broker) Addr() string { return "127.0.0.1:" + strconv.Itoa(b.port) }

// SecureAddr returns the address of the listener with TLS, if there is one.
func (b *Broker) SecureAddr() string { return "127.0.0.1:" + strconv.Itoa(b.securePort) }

// Stop shuts the broker down cleanly and keeps its data.
func (b *Broker) Stop() {
	if b.proc != nil {
		b.proc.Stop(stopGrace)
	}
}

// Kill ends the broker at once, as a power cut would, and keeps its data.
func (b *Broker) Kill() {
	if b.proc != nil {
		b.proc.Kill()
	}
}

// Pause suspends the process: connections stay open, and the broker does not respond.
func (b *Broker) Pause() { b.proc.Signal(syscall.SIGSTOP) }

// Continue ends a Pause.
func (b *Broker) Continue() { b.proc.Signal(syscall.SIGCONT) }

func (b *Broker) running() bool {
	if b.proc == nil {
		return false
	}
	select {
	case <-b.proc.Done():
		return false
	default:
		return true
	}
}

// properties returns the settings of a node of a small cluster that starts fast. Its
// controller is node 1, on the given port.
func (b *Broker) properties(controllerPort int) map[string]string {
	controller := "127.0.0.1:" + strconv.Itoa(controllerPort)
	props := map[string]string{
		"process.roles":                                    "broker",
		"node.id":                                          strconv.Itoa(b.id),
		"controller.quorum.bootstrap.servers":              controller,
		"controller.listener.names":                        "CONTROLLER",
		"listeners":                                        "PLAINTEXT://" + b.Addr(),
		"advertised.listeners":                             "PLAINTEXT://" + b.Addr(),
		"listener.security.protocol.map":                   "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name":                       "PLAINTEXT",
		"log.dirs":                                         filepath.Join(b.dir, "data"),
		"auto.create.topics.enable":                        "false",
		"group.initial.rebalance.delay.ms":                 "0",
		"default.replication.factor":                       "1",
		"offsets.topic.replication.factor":                 "1",
		"offsets.topic.num.partitions":                     "1",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"transaction.state.log.num.partitions":             "1",
		"share.coordinator.state.topic.min.isr":            "1",
		"log.cleaner.dedupe.buffer.size":                   "4194304", // the default of 128 MiB is too much for a small heap
		"log.index.size.max.bytes":                         "262144",  // the default is 10 MiB for each of many small partitions
		"log.initial.task.delay.ms":                        "500",
		"num.io.threads":                                   "4",
		"num.network.threads":                              "2",
		"background.threads":                               "2",
		"broker.heartbeat.interval.ms":                     "1000",
		"broker.session.timeout.ms":                        "4000", // a killed broker cannot register again before it ends
		"unclean.leader.election.enable":                   "false",
		"socket.listen.backlog.size":                       "1024", // a thousand consumers may reconnect at once
		"share.coordinator.state.topic.replication.factor": "1",
	}
	if b.id == 1 {
		props["process.roles"] = "broker,controller"
		props["listeners"] += ",CONTROLLER://" + controller
		props["advertised.listeners"] += ",CONTROLLER://" + controller
	}
	return props
}

// advertise adds a listener with the advertised address that the function returns.
func (b *Broker) advertise(props map[string]string, port int, advertised func(string) string) {
	addr := "127.0.0.1:" + strconv.Itoa(port)
	b.advertised = advertised(addr)
	props["listeners"] += ",PROXIED://" + addr
	props["advertised.listeners"] += ",PROXIED://" + b.advertised
	props["listener.security.protocol.map"] += ",PROXIED:PLAINTEXT"
}

// secure adds a listener with TLS.
func (b *Broker) secure(props map[string]string, t TLS) error {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return fmt.Errorf("create folder of broker %d: %w", b.id, err)
	}
	keys, trusted := filepath.Join(b.dir, "server.pem"), filepath.Join(b.dir, "clients.pem")
	files := map[string][]byte{keys: slices.Concat(t.Server.Key, t.Server.Cert), trusted: t.Authority}
	for _, key := range []string{"listeners", "advertised.listeners"} {
		props[key] += ",SECURE://" + b.SecureAddr()
	}
	const prefix = "listener.name.secure.ssl."
	if t.SASL {
		props["listener.security.protocol.map"] += ",SECURE:SASL_SSL"
		const login, modules = "listener.name.secure.", "org.apache.kafka.common.security."
		props[login+"sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
		props[login+"plain.sasl.jaas.config"] = fmt.Sprintf("%splain.PlainLoginModule required user_%s=%q;", modules, PlainUser, PlainPassword)
		for _, scram := range []string{"scram-sha-256", "scram-sha-512"} {
			props[login+scram+".sasl.jaas.config"] = modules + "scram.ScramLoginModule required;"
		}
	} else {
		props["listener.security.protocol.map"] += ",SECURE:SSL"
		props[prefix+"client.auth"] = "required"
	}
	props[prefix+"keystore.type"], props[prefix+"keystore.location"] = "PEM", keys
	props[prefix+"truststore.type"], props[prefix+"truststore.location"] = "PEM", trusted
	if t.Tokens != nil {
		path, text, err := b.accept(props, t.Tokens)
		if err != nil {
			return fmt.Errorf("write keys of tokens for broker %d: %w", b.id, err)
		}
		files[path] = text
	}
	for path, text := range files {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return fmt.Errorf("write certificates of broker %d: %w", b.id, err)
		}
	}
	return nil
}

// format writes server.properties and prepares the data folder.
func (b *Broker) format(props map[string]string, clusterID string) error {
	var text bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(props)) {
		fmt.Fprintf(&text, "%s=%s\n", k, props[k])
	}
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return fmt.Errorf("create folder of broker %d: %w", b.id, err)
	}
	if err := os.WriteFile(b.config(), text.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write configuration of broker %d: %w", b.id, err)
	}
	role := "--standalone"
	if b.id != 1 {
		role = "--no-initial-controllers"
	}
	out, err := b.java("kafka.tools.StorageTool", "format", role, "-t", clusterID, "-c", b.config()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("format data of broker %d: %w\n%s", b.id, err, out)
	}
	return nil
}

func (b *Broker) config() string { return filepath.Join(b.dir, "server.properties") }

func (b *Broker) logFile() string { return filepath.Join(b.dir, "broker.log") }

// java returns a command that runs Java with the jars. The flags shorten the start: tests
// run for seconds, so the optimising compiler and a parallel collector do not pay off.
func (b *Broker) java(args ...string) *exec.Cmd {
	flags := []string{
		"-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
		"-cp", filepath.Join(b.jars, "*"),
	}
	cmd := exec.Command("java", slices.Concat(flags, b.flags, args)...)
	cmd.Dir = b.dir
	return cmd
}

// launch starts the broker without waiting until it is ready.
func (b *Broker) launch() error {
	log, err := os.OpenFile(b.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log of broker %d: %w", b.id, err)
	}
	defer log.Close() // the broker has its own descriptor
	cmd := b.java("kafka.Kafka", b.config())
	cmd.Stdout, cmd.Stderr = log, log
	if b.proc, err = process.Start(cmd); err != nil {
		return fmt.Errorf("start broker %d: %w", b.id, err)
	}
	return nil
}

// logTail returns the end of the broker's log, for the message of a failure.
func (b *Broker) logTail() []byte {
	const tail = 8 << 10
	text, err := os.ReadFile(b.logFile())
	if err != nil {
		return []byte(err.Error())
	}
	return text[max(0, len(text)-tail):]
}
