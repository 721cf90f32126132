package systemd

import (
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A Notifier sends messages to systemd.
type Notifier struct {
	send     func(message string) error // nil if systemd expects no messages
	watchdog time.Duration              // systemd kills the service if it receives no ping for this long; 0 means never
}

// New returns a notifier that sends with a function, and pings if watchdog is not 0.
func New(send func(message string) error, watchdog time.Duration) *Notifier {
	return &Notifier{send, watchdog}
}

// FromEnvironment returns the notifier that NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID
// describe, and removes these variables: the credential_process of an AWS profile is a program
// that the agent starts, and it must not report the state of the agent.
func FromEnvironment() *Notifier {
	socket, usec, pid := take("NOTIFY_SOCKET"), take("WATCHDOG_USEC"), take("WATCHDOG_PID")
	if socket == "" {
		return New(nil, 0)
	}
	send := func(message string) error { return sendTo(socket, message) }
	us, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || us <= 0 || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return New(send, 0) // no watchdog, or the watchdog of the process that the environment is inherited from
	}
	return New(send, time.Duration(us)*time.Microsecond)
}

// take removes an environment variable and returns its value.
func take(name string) string {
	value := os.Getenv(name)
	_ = os.Unsetenv(name) // fails for invalid names only
	return value
}

// sendTimeout bounds the wait for a systemd that does not read its socket.
const sendTimeout = time.Second

// sendTo sends one message to a socket: a path, or @ and an abstract name.
func sendTo(socket, message string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(message))
	return err
}

// monotonicUsec is the assignment of the current time that systemd compares with its own.
func monotonicUsec() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return ""
	}
	return "MONOTONIC_USEC=" + strconv.FormatInt(now.Nano()/1000, 10)
}
