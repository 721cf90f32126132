package testkit

import (
	"encoding/base64"
	"encoding/json"
)

// JWT returns a token that contains its expiry.
func JWT(exp any) string {
	payload, _ := json.Marshal(map[string]any{"sub": "reader", "exp": exp})
	return "e30." + base64.RawURLEncoding.EncodeToString(payload) + ".c2lnbmF0dXJl"
}
