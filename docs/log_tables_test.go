package docs

import (
	"go/ast"
	"go/constant"
	"go/types"
	"log/slog"
	"slices"

	"golang.org/x/tools/go/packages"
)

// neverLogged are rows of tables that the program does not log.
var neverLogged = map[string]bool{
	"ClusterReplaced": true, // an error reports it, with the ids of both clusters
}

// messageTable returns the rows of the table whose field a call logs: all values of the
// struct that has the field, such as the reasons of a decision.
func messageTable(pkg *packages.Package, e ast.Expr, program []*packages.Package) (rows []logMessage) {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	field := pkg.TypesInfo.Uses[sel.Sel]
	if row, ok := sel.X.(*ast.Ident); ok { // one row of it: a package variable
		if v, ok := pkg.TypesInfo.Uses[row].(*types.Var); ok && v.Parent() == v.Pkg().Scope() {
			defer func() {
				rows = slices.DeleteFunc(rows, func(r logMessage) bool { return !r.sources[v.Name()] })
			}()
		}
	}
	if row, ok := sel.X.(*ast.SelectorExpr); ok {
		if v, ok := pkg.TypesInfo.Uses[row.Sel].(*types.Var); ok && !v.IsField() {
			defer func() {
				rows = slices.DeleteFunc(rows, func(r logMessage) bool { return !r.sources[v.Name()] })
			}()
		}
	}
	for _, p := range program {
		if field == nil || p.Types != field.Pkg() {
			continue
		}
		for _, file := range p.Syntax {
			ast.Inspect(file, func(n ast.Node) bool {
				spec, ok := n.(*ast.ValueSpec)
				if !ok {
					return true
				}
				for i, value := range spec.Values {
					lit, ok := value.(*ast.CompositeLit)
					if u, unary := value.(*ast.UnaryExpr); unary {
						lit, ok = u.X.(*ast.CompositeLit)
					}
					if ok {
						if row, ok := tableRow(p, lit, field); ok && !neverLogged[spec.Names[i].Name] {
							row.sources = map[string]bool{spec.Names[i].Name: true}
							rows = append(rows, row)
						}
					}
				}
				return true
			})
		}
	}
	return rows
}

func tableRow(p *packages.Package, lit *ast.CompositeLit, field types.Object) (row logMessage, ok bool) {
	st, isStruct := p.TypesInfo.TypeOf(lit).Underlying().(*types.Struct)
	if !isStruct {
		return row, false
	}
	for i, elt := range lit.Elts {
		var f types.Object
		if kv, keyed := elt.(*ast.KeyValueExpr); keyed {
			f, elt = p.TypesInfo.Uses[kv.Key.(*ast.Ident)], kv.Value
		} else {
			f = st.Field(i)
		}
		if f == field {
			row.text, ok = text(p, elt)
		} else if v := p.TypesInfo.Types[elt].Value; v != nil && p.TypesInfo.TypeOf(elt).String() == "log/slog.Level" {
			n, _ := constant.Int64Val(v)
			row.level = slog.Level(n).String()
		}
	}
	return row, ok
}
