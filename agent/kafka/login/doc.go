// Package login authenticates to clusters. It has the [Credentials], which are read from the
// configuration and the files that it names, the SASL mechanisms, the tokens, and the
// [Breaker], which delays the next login with rejected credentials.
//
// # Rules
//
//   - The fingerprint of credentials is taken before their content is read. A rotation
//     between the two makes them look older than they are, which costs a reconnect but
//     never misses a change.
//   - Rejected credentials are not used again at once by any consumer of the cluster:
//     a thousand consumers with independent retries would lock the account.
//   - Redirects of a token server are not followed, because the client secret would be
//     sent to the other server.
package login
