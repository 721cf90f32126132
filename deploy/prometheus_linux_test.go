package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"kcagent/e2e/kafkatest"
	"kcagent/e2e/process"
	"kcagent/e2e/wait"
)

// A prometheusServer is a real Prometheus that scrapes the agents.
type prometheusServer struct {
	url    string
	client *http.Client
}

// startPrometheus starts a server until the end of the test. It evaluates the rules with
// shortened times.
func startPrometheus(t *testing.T, program string, agents ...string) *prometheusServer {
	t.Helper()
	dir := t.TempDir()
	shorten(t, filepath.Join(dir, "rules.yaml"))
	config := "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\nrule_files: [rules.yaml]\n" +
		"scrape_configs: [{job_name: kcagent, static_configs: [{targets: ['" + strings.Join(agents, "', '") + "']}]}]\n"
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	addr := fmt.Sprintf("127.0.0.1:%d", kafkatest.FreePort(t))
	cmd := exec.Command(program, "--config.file", filepath.Join(dir, "prometheus.yaml"),
		"--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", addr)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	proc, err := process.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	p := &prometheusServer{url: "http://" + addr, client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{}}}
	t.Cleanup(func() {
		proc.Stop(10 * time.Second)
		p.client.CloseIdleConnections()
		if t.Failed() {
			text, err := os.ReadFile(log.Name())
			t.Logf("the log of Prometheus (%v):\n%s", err, text[max(0, len(text)-4000):])
		}
	})
	wait.For(t, wait.Timeout, "Prometheus to be ready", func() error {
		resp, err := p.client.Get(p.url + "/-/ready")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	return p
}

// shorten writes the rules with shorter times: an alert fires after two seconds instead of
// minutes, and windows are half a minute long.
func shorten(t *testing.T, path string) {
	t.Helper()
	f := readRules(t)
	for i := range f.Groups[0].Rules {
		r := &f.Groups[0].Rules[i]
		if r.For != "" {
			r.For = "2s"
		}
		r.Expr = regexp.MustCompile(`\[\d+[mh]\]`).ReplaceAllString(r.Expr, "[30s]")
	}
	text, err := yaml.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// get requests a path of the API and decodes the data of the response.
func (p *prometheusServer) get(t *testing.T, path string, data any) {
	t.Helper()
	resp, err := p.client.Get(p.url + "/api/v1/" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	reply := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil || reply.Status != "success" {
		t.Fatalf("%s: %v %s", path, err, reply.Error)
	}
}

// A sample is one series of the result of a query.
type sample struct {
	Metric map[string]string
	Value  []any
}

func (p *prometheusServer) query(t *testing.T, expr string) []sample {
	t.Helper()
	var data struct{ Result []sample }
	p.get(t, "query?query="+url.QueryEscape(expr), &data)
	return data.Result
}

// An alert is one that is pending or firing.
type alert struct {
	Labels, Annotations map[string]string
	State               string
}

func (p *prometheusServer) alerts(t *testing.T) []alert {
	t.Helper()
	var data struct{ Alerts []alert }
	p.get(t, "alerts", &data)
	return data.Alerts
}

// waitFiring waits until an alert fires with these labels.
func (p *prometheusServer) waitFiring(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	wait.For(t, wait.Timeout, fmt.Sprintf("%s %v to fire", name, labels), func() error {
		var others []string
	next:
		for _, a := range p.alerts(t) {
			if a.State != "firing" {
				continue
			}
			others = append(others, fmt.Sprint(a.Labels))
			for k, v := range labels {
				if a.Labels["alertname"] != name || a.Labels[k] != v {
					continue next
				}
			}
			return nil
		}
		return fmt.Errorf("firing are %s", strings.Join(others, ", "))
	})
}

// checkDashboard runs each query of the dashboard.
func (p *prometheusServer) checkDashboard(t *testing.T) {
	t.Helper()
	variables := strings.NewReplacer("$job", ".*", "$instance", ".*", "$consumer", ".*", "$__rate_interval", "20s")
	for _, panel := range panelsOf(readDashboard(t)) {
		for i, expr := range queriesOf(t, panel) {
			name := *panel.Title + " " + string(rune('A'+i))
			expr = variables.Replace(expr)
			if strings.Contains(expr, "$") {
				t.Errorf("%s has an unknown variable: %s", name, expr)
			}
			if found := len(p.query(t, expr)) > 0; !found && !mayBeEmpty[*panel.Title+" "+string(rune('A'+i))] {
				t.Errorf("%s finds nothing: %s", name, expr)
			}
		}
	}
	for _, v := range readDashboard(t).Templating.List {
		if v.Query == nil || v.Query.Map == nil {
			continue
		}
		text, _ := v.Query.Map["query"].(string)
		m := regexp.MustCompile(`^label_values\((.*), ([a-z]+)\)$`).FindStringSubmatch(variables.Replace(text))
		if m == nil {
			t.Errorf("the variable %s has the query %q", v.Name, text)
			continue
		}
		var values []string
		p.get(t, "label/"+m[2]+"/values?match[]="+url.QueryEscape(m[1]), &values)
		if len(values) == 0 {
			t.Errorf("the variable %s has no values", v.Name)
		}
	}
}
