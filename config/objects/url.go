package objects

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"kcagent/sink/objects/store"
)

// The schemes of a URL.
const (
	S3    = "s3"
	GCS   = "gs"
	Azure = "az"
	File  = "file"
)

// A URL is where objects are stored.
type URL struct {
	Scheme string
	Bucket string // or container; "" for a folder
	Prefix string // of all keys, without slashes at its ends; for a folder, its absolute path
}

const urlForms = "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder"

// otherSchemes are schemes that other programs use for the same stores.
var otherSchemes = map[string]string{
	"s3a": S3, "s3n": S3, "minio": S3, "gcs": GCS, "azure": Azure, "azblob": Azure, "abfs": Azure, "abfss": Azure, "wasb": Azure, "wasbs": Azure,
}

var legalBucket = regexp.MustCompile(`^[a-z0-9$][a-z0-9._-]*$`)

// ParseURL splits the url of a normalised block. A finding says why it is invalid; it does not
// show a password.
func ParseURL(text string) (u URL, bad *Finding) {
	fail := func(message, hint string) (URL, *Finding) {
		return URL{}, &Finding{Field: "url", Message: message, Hint: hint}
	}
	if text == "" {
		return fail("missing: set where the objects are stored", "write "+urlForms)
	}
	scheme, rest, ok := strings.Cut(text, ":")
	switch {
	case !ok:
		return fail("invalid URL "+strconv.Quote(text)+": it has no scheme", "write "+urlForms)
	case strings.ContainsFunc(rest, unicode.IsControl):
		return fail("the URL contains a control character", "remove it")
	case scheme == "http" || scheme == "https":
		return fail("unknown scheme "+scheme, "write s3://bucket/prefix, and set endpoint to the address of a compatible store")
	case otherSchemes[scheme] != "":
		return fail("unknown scheme "+strconv.Quote(scheme), "write "+otherSchemes[scheme]+"://")
	case !slices.Contains([]string{S3, GCS, Azure, File}, scheme):
		return fail("unknown scheme "+strconv.Quote(scheme), "write "+urlForms)
	case strings.Contains(rest, "@"):
		return fail("contains a user or a password, which would be visible", "set credentials")
	case strings.ContainsAny(rest, "?#"):
		return fail("the URL contains ? or #: it has no query and no fragment", "use the keys beside url for settings")
	case strings.ContainsRune(rest, '%'):
		return fail("the URL contains a percent sign", "write the characters themselves: nothing is decoded")
	case strings.ContainsAny(rest, "{}"):
		return fail("unknown placeholder in the URL: it has {name} only", "move other placeholders to key")
	case strings.ContainsRune(rest, '\\'):
		return fail("the URL contains a backslash", "use slashes")
	}
	if scheme == File {
		rest, ok = strings.CutPrefix(rest, "//")
		return folderURL(rest, ok, fail)
	}
	u = URL{Scheme: scheme}
	u.Bucket, u.Prefix, ok = store.SplitURL(text, scheme)
	switch {
	case !ok:
		return fail("the URL names no bucket", "write "+scheme+"://bucket/prefix")
	case strings.HasPrefix(u.Bucket, "arn:"):
		return fail("an ARN is not the name of a bucket", "write the name of the bucket, or the alias of the access point, which ends with -s3alias")
	case strings.Contains(u.Bucket, ":"):
		return fail("the bucket "+strconv.Quote(u.Bucket)+" contains a port", "set endpoint to the address of the store, and write "+scheme+"://bucket/prefix")
	case !legalBucket.MatchString(u.Bucket):
		return fail("invalid bucket "+strconv.Quote(u.Bucket)+": must be lower-case letters, digits, dot, underscore or dash", "write the name of the bucket as the store shows it")
	case scheme == S3 && strings.HasSuffix(u.Bucket, "--x-s3"):
		return fail("directory buckets (S3 Express One Zone) are not supported", "use a general purpose bucket")
	}
	if e, bad := badElement(u.Prefix); u.Prefix != "" && bad {
		return fail("the prefix has "+e, "write it without empty elements, . and ..")
	}
	return u, nil
}

func folderURL(rest string, slashes bool, fail func(message, hint string) (URL, *Finding)) (URL, *Finding) {
	folder, absolute := strings.CutPrefix(rest, "/")
	switch e, bad := badElement(folder); {
	case strings.HasPrefix(strings.TrimPrefix(rest, "/")+"/", "~/"):
		return fail("~ is not expanded", "write the whole path, or file://${HOME}/…")
	case !slashes || !absolute:
		return fail("the URL does not begin with file:///, so its folder is not absolute", "write file:///folder, with the whole path of the folder")
	case folder == "":
		return fail("the URL names no folder", "write file:///folder")
	case bad:
		return fail("the folder has "+e, "write it without empty elements, . and ..")
	}
	return URL{Scheme: File, Prefix: "/" + folder}, nil
}

// badElement describes the first element of a path that is empty, or would lead to another folder.
func badElement(path string) (element string, bad bool) {
	for e := range strings.SplitSeq(path, "/") {
		switch e {
		case "":
			return "an empty element", true
		case ".", "..":
			return "the element " + e, true
		}
	}
	return "", false
}

// checkEndpoint checks the address of a compatible store.
func (c *checker) checkEndpoint() {
	if c.Endpoint == "" {
		return
	}
	const hint = "write https://host or https://host:port"
	u, err := url.Parse(c.Endpoint)
	switch {
	case strings.Contains(c.Endpoint, "@"):
		c.report("endpoint", "contains a user or a password, which would be visible", "set credentials")
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		c.report("endpoint", "invalid URL "+strconv.Quote(c.Endpoint), hint)
	case u.RawQuery != "" || u.Fragment != "":
		c.report("endpoint", "contains a query or a fragment", hint)
	case !legalPort(u.Port()):
		c.report("endpoint", "invalid port "+u.Port(), hint)
	case u.Scheme == "http" && c.TLS != nil:
		c.report("tls", "cannot be combined with an endpoint that begins with http://, which is not encrypted", "write https:// in endpoint, or remove tls")
	case u.Path != "" && c.url.Scheme != Azure: // an emulator of Azure has the account there
		c.report("endpoint", "contains a path", hint+"; the bucket belongs to url")
	}
}

// legalPort reports whether a port is empty or from 1 to 65535.
func legalPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}
