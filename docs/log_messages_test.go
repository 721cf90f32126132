package docs

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/constant"
	"go/types"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// A logMessage is one message that the program can log.
type logMessage struct {
	text    string
	level   string
	attrs   []string
	sources map[string]bool // packages
}

// logMessagesPage lists each call of a [slog.Logger] in the program. It fails for a
// message that is no constant, because nobody can search for it or alert on it.
func logMessagesPage(t *testing.T) string {
	found := make(map[string]*logMessage)
	pkgs := loadProgram(t)
	for _, pkg := range pkgs {
		for _, file := range pkg.Syntax {
			for _, decl := range file.Decls {
				logCalls(t, pkg, decl, func(m logMessage) {
					key := m.text + m.level
					if found[key] == nil {
						m.sources = make(map[string]bool)
						found[key] = &m
					}
					same := found[key]
					same.sources[strings.TrimPrefix(pkg.PkgPath, "kcagent/")] = true
					for _, a := range m.attrs {
						if !slices.Contains(same.attrs, a) {
							same.attrs = append(same.attrs, a)
						}
					}
				}, pkgs)
			}
		}
	}
	var b strings.Builder
	b.WriteString(generated)
	b.WriteString(logMessagesIntro)
	b.WriteString("\n## Attributes\n\n| attribute | meaning |\n|---|---|\n")
	for _, key := range keys(t, pkgs) {
		fmt.Fprintf(&b, "| `%s` | %s |\n", key.name, key.meaning)
	}
	b.WriteString("\n## Messages\n\n| message | level | attributes | package |\n|---|---|---|---|\n")
	for _, key := range slices.Sorted(maps.Keys(found)) {
		m := found[key]
		if !phrase.MatchString(m.text) {
			t.Errorf("log message %q of %v: begin in lower case, end without a period, and put values into attributes", m.text, slices.Collect(maps.Keys(m.sources)))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.text, m.level, code(m.attrs), code(slices.Sorted(maps.Keys(m.sources))))
	}
	return b.String()
}

type logKey struct{ name, meaning string }

// keys lists the constants of package logkey with their comments.
func keys(t *testing.T, program []*packages.Package) (all []logKey) {
	for _, p := range program {
		if p.Name != "logkey" {
			continue
		}
		for _, file := range p.Syntax {
			ast.Inspect(file, func(n ast.Node) bool {
				if spec, ok := n.(*ast.ValueSpec); ok {
					name, _ := text(p, spec.Values[0])
					if spec.Comment == nil {
						t.Errorf("logkey.%s has no comment that says what it means", spec.Names[0].Name)
					}
					all = append(all, logKey{name, strings.TrimSpace(spec.Comment.Text())})
				}
				return true
			})
		}
	}
	return all
}

// phrase is what a log message looks like. Kafka and similar names begin in upper case.
var phrase = regexp.MustCompile(`^[\pL][^%=]*[\pL\d]$`)

const logMessagesIntro = `# Log messages

The agent logs constant messages; values are attributes. Messages that concern one consumer also have the attribute ` + "`consumer`" + `, and messages of a sink have the attributes of its consumer. An attribute is absent where it does not apply: a message that says where a partition resumes has ` + "`policy`" + ` or ` + "`next_step`" + ` only if needed.

[troubleshooting.md](troubleshooting.md) explains each warning and error with its cause and the action to take. ` + "`--log-level debug`" + ` shows the messages of level DEBUG.
`

// loadProgram returns the packages that are part of the binary, with types.
func loadProgram(t *testing.T) []*packages.Package {
	t.Helper()
	pkgs, err := packages.Load(&packages.Config{
		Dir:  "..",
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedImports | packages.NeedDeps,
	}, ".")
	if err != nil {
		t.Fatal(err)
	}
	var program []*packages.Package
	packages.Visit(pkgs, nil, func(p *packages.Package) {
		for _, e := range p.Errors {
			t.Fatal(e)
		}
		if p.PkgPath == "kcagent" || strings.HasPrefix(p.PkgPath, "kcagent/") {
			program = append(program, p)
		}
	})
	return program
}

// logCalls finds the messages that are logged in a declaration.
func logCalls(t *testing.T, pkg *packages.Package, decl ast.Decl, found func(logMessage), program []*packages.Package) {
	ast.Inspect(decl, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		f, ok := pkg.TypesInfo.Uses[sel.Sel].(*types.Func)
		if !ok || f.Pkg() == nil || f.Pkg().Path() != "log/slog" {
			return true
		}
		var levelArg ast.Expr
		at := 0 // of the message
		switch f.Name() {
		case "Debug", "Info", "Warn", "Error":
		case "Log":
			at, levelArg = 2, call.Args[1]
		default:
			return true
		}
		m := logMessage{level: strings.ToUpper(f.Name()), attrs: attributes(t, pkg, decl, call, at+1)}
		if levelArg != nil {
			m.level = levelOf(pkg, decl, levelArg)
		}
		if call.Ellipsis.IsValid() && len(m.attrs) == 0 {
			t.Errorf("%s: the attributes of the log message are not found: append them to the slice in the same function", pkg.Fset.Position(call.Pos()))
		}
		if text, ok := text(pkg, call.Args[at]); ok {
			m.text = text
			found(m)
			return true
		}
		listed, level := false, m.level
		for _, row := range messageTable(pkg, call.Args[at], program) {
			listed = true
			m.text, m.level = row.text, cmp.Or(level, row.level)
			found(m)
		}
		if !listed {
			t.Errorf("%s: the log message is not a constant", pkg.Fset.Position(call.Pos()))
		}
		return true
	})
}

func text(pkg *packages.Package, e ast.Expr) (string, bool) {
	v := pkg.TypesInfo.Types[e].Value
	if v == nil || v.Kind() != constant.String {
		return "", false
	}
	return constant.StringVal(v), true
}

// attributes lists the keys of a call's attributes, and of the slice that it passes.
func attributes(t *testing.T, pkg *packages.Package, decl ast.Decl, call *ast.CallExpr, first int) (keys []string) {
	every := func(args []ast.Expr) {
		for i := 0; i < len(args); i += 2 {
			key, ok := text(pkg, args[i])
			if _, literal := args[i].(*ast.BasicLit); literal || !ok {
				t.Errorf("%s: use a constant of package logkey as the key of a log attribute", pkg.Fset.Position(args[i].Pos()))
			}
			if !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	every(inherited(pkg, decl, call.Fun.(*ast.SelectorExpr).X))
	if !call.Ellipsis.IsValid() {
		every(call.Args[first:])
		return keys
	}
	slice, ok := call.Args[len(call.Args)-1].(*ast.Ident)
	if !ok {
		return []string{"…"}
	}
	ast.Inspect(decl, func(n ast.Node) bool {
		assign, ok := n.(*ast.AssignStmt)
		if !ok || len(assign.Lhs) != 1 {
			return true
		}
		to, ok := assign.Lhs[0].(*ast.Ident)
		if !ok || pkg.TypesInfo.ObjectOf(to) != pkg.TypesInfo.ObjectOf(slice) {
			return true
		}
		switch from := assign.Rhs[0].(type) {
		case *ast.CompositeLit:
			every(from.Elts)
		case *ast.CallExpr: // append
			every(from.Args[1:])
		}
		return true
	})
	return keys
}

// inherited returns the arguments of the calls of With that made a logger in the same
// function.
func inherited(pkg *packages.Package, decl ast.Decl, logger ast.Expr) (args []ast.Expr) {
	variable, ok := logger.(*ast.Ident)
	if !ok {
		return nil
	}
	ast.Inspect(decl, func(n ast.Node) bool {
		assign, ok := n.(*ast.AssignStmt)
		if !ok || len(assign.Lhs) != 1 || len(assign.Rhs) != 1 {
			return true
		}
		to, ok := assign.Lhs[0].(*ast.Ident)
		if !ok || pkg.TypesInfo.ObjectOf(to) != pkg.TypesInfo.ObjectOf(variable) {
			return true
		}
		if call, ok := assign.Rhs[0].(*ast.CallExpr); ok {
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "With" {
				args = append(args, call.Args...)
			}
		}
		return true
	})
	return args
}

// levelOf returns the constant levels that an expression can have.
func levelOf(pkg *packages.Package, decl ast.Decl, level ast.Expr) string {
	name := func(e ast.Expr) string {
		if v := pkg.TypesInfo.Types[e].Value; v != nil {
			n, _ := constant.Int64Val(v)
			return slog.Level(n).String()
		}
		return ""
	}
	if one := name(level); one != "" {
		return one
	}
	variable, ok := level.(*ast.Ident)
	if !ok {
		return "" // of the message's table
	}
	var all []string
	ast.Inspect(decl, func(n ast.Node) bool {
		assign, ok := n.(*ast.AssignStmt)
		if ok && len(assign.Lhs) == 1 {
			if to, ok := assign.Lhs[0].(*ast.Ident); ok && pkg.TypesInfo.ObjectOf(to) == pkg.TypesInfo.ObjectOf(variable) {
				if l := name(assign.Rhs[0]); l != "" && !slices.Contains(all, l) {
					all = append(all, l)
				}
			}
		}
		return true
	})
	return strings.Join(all, " or ")
}
