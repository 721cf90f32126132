package deploy

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	grafanaprometheus "github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// A classicDashboard is the form of a dashboard that every version of Grafana imports. The
// library prefers a newer one.
//
//lint:ignore SA1019 only the newest versions of Grafana import the other form
type classicDashboard = dashboard.Dashboard

// checkDashboard returns what is wrong with a dashboard: a key or a type of value that Grafana
// does not have, also in the options of panels and in queries. It returns "" for a valid one,
// for which the library returns an error without text.
func checkDashboard(text string) string {
	registerPanels()
	var strict classicDashboard
	if err := strict.UnmarshalJSONStrict([]byte(text)); err != nil {
		return err.Error()
	}
	return ""
}

// registerPanels makes the types of panels and queries known.
func registerPanels() {
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(table.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterDataqueryVariant(grafanaprometheus.VariantConfig())
}

// readDashboard returns the dashboard.
func readDashboard(t *testing.T) (d classicDashboard) {
	t.Helper()
	registerPanels()
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	return d
}

// panelsOf returns all panels but rows, including the panels of collapsed rows.
func panelsOf(d classicDashboard) (panels []dashboard.Panel) {
	for _, p := range d.Panels {
		if p.Panel != nil {
			panels = append(panels, *p.Panel)
		}
		if p.RowPanel != nil {
			panels = append(panels, p.RowPanel.Panels...)
		}
	}
	return panels
}

// queriesOf returns the expressions of a panel.
func queriesOf(t *testing.T, p dashboard.Panel) (exprs []string) {
	t.Helper()
	for _, target := range p.Targets {
		q, ok := target.(*grafanaprometheus.Dataquery)
		if !ok {
			if v, is := target.(grafanaprometheus.Dataquery); is {
				q, ok = &v, true
			}
		}
		if !ok {
			t.Fatalf("%s: a target is %T", *p.Title, target)
		}
		exprs = append(exprs, q.Expr)
	}
	return exprs
}

// TestDashboardIsValid: its JSON is what Grafana expects, ids and places are unique, and each
// panel shows something of the chosen data source.
func TestDashboardIsValid(t *testing.T) {
	text := read(t, dashboardFile)
	if problems := checkDashboard(text); problems != "" {
		t.Errorf("%s: %s", dashboardFile, problems)
	}
	for key, typo := range map[string]string{`"schemaVersion"`: `"schemaVersions"`, `"calcs"`: `"calc"`, `"expr": "`: `"expr": 1, "x": "`, `"w": 3`: `"w": "3"`} {
		if broken := strings.Replace(text, key, typo, 1); broken == text || checkDashboard(broken) == "" {
			t.Errorf("%s instead of %s is accepted", typo, key)
		}
	}
	d := readDashboard(t)
	ids, cells := make(map[uint32]string), make(map[[2]uint32]string)
	place := func(title string, id *uint32, at *dashboard.GridPos) {
		if id == nil || at == nil || ids[*id] != "" {
			t.Fatalf("%s: id %v, place %v; the id belongs to %q", title, id, at, ids[*id])
		}
		ids[*id] = title
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				if other := cells[[2]uint32{x, y}]; other != "" || x >= 24 {
					t.Errorf("%s lies on %q or beyond the edge", title, other)
				}
				cells[[2]uint32{x, y}] = title
			}
		}
	}
	for _, p := range d.Panels {
		if r := p.RowPanel; r != nil {
			place("row "+*r.Title, &r.Id, r.GridPos)
		}
	}
	for _, p := range panelsOf(d) {
		place(*p.Title, p.Id, p.GridPos)
		if len(queriesOf(t, p)) == 0 || p.Datasource == nil || *p.Datasource.Uid != "${datasource}" {
			t.Errorf("%s has no query, or another data source", *p.Title)
		}
		if len(p.Targets) == 0 || !slices.Contains([]string{"stat", "table", "timeseries"}, p.Type) {
			t.Errorf("%s is of type %s", *p.Title, p.Type)
		}
	}
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
	}
	if want := []string{"datasource", "job", "instance", "consumer"}; !slices.Equal(variables, want) {
		t.Errorf("the variables are %v, want %v", variables, want)
	}
}
