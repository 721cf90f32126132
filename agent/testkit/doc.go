// Package testkit is what tests of the packages below agent share: servers that fail in
// certain ways, and a buffer for logs. Only tests import it.
package testkit
