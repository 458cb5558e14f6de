// Package fills stores guarded fills with go-redis: the contract of docs/fills.md. Put it beside fill.lua and make it yours.
//
// Written against github.com/redis/go-redis/v9. Unlike its siblings it is not run by pgevict's tests.
package fills

import (
	"context"
	_ "embed"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed fill.lua
var source string

var script = redis.NewScript(source)

// Token is what one statement reads beside the value: "SELECT name, " + Token + " FROM users WHERE id = $1".
const Token = "(SELECT pgevict.token())"

// Cache is a cache of pgevict's configuration that holds the key; Template is empty where the cache is a `key`, and the
// rendered template where it is a `pattern`.
type Cache struct{ Name, Template string }

// Fills stores through the script. State is redis.state of pgevict's configuration, "{pgevict}" unless it was changed.
type Fills struct {
	Redis redis.UniversalClient
	State string
}

// Store stores value unless a change since has overtaken it, and returns the script's word: count them. token is nil where
// the database said NULL. Every cache that holds the key must be named.
func (f *Fills) Store(ctx context.Context, key string, value any, token *string, ttl time.Duration, caches ...Cache) (string, error) {
	said := ""
	if token != nil {
		said = *token
	}
	args := []any{said, ttl.Milliseconds(), value, ""}
	for _, cache := range caches {
		args = append(args, cache.Name, cache.Template)
	}
	return script.Run(ctx, f.Redis, []string{f.State + ":position", key}, args...).Text()
}

// Escape writes a value as it stands in a rendered pattern. inClass: the template itself holds a `[`.
func Escape(value string, inClass bool) string {
	special := `*?[]\`
	if inClass {
		special = `*?[]^-\`
	}
	var out strings.Builder
	for i := 0; i < len(value); i++ {
		if strings.IndexByte(special, value[i]) >= 0 {
			out.WriteByte('\\')
		}
		out.WriteByte(value[i])
	}
	return out.String()
}
