package objects

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// checkProvider reports settings that the store does not have.
func (c *checker) checkProvider() {
	for _, s := range []struct {
		field   string
		set     bool
		schemes string
	}{
		{"region", c.Region != "", S3},
		{"endpoint", c.Endpoint != "", S3 + " " + GCS + " " + Azure},
		{"path_style", c.PathStyle, S3},
		{"account", c.Account != "", Azure},
		{"tls", c.TLS != nil, S3 + " " + GCS + " " + Azure},
		{"server_side_encryption", c.ServerSideEncryption != "", S3},
		{"storage_class", c.StorageClass != "", S3 + " " + GCS + " " + Azure},
		{"tags", c.Tags != nil, S3 + " " + Azure},
		{"credentials.access_key_file", c.Credentials.AccessKeyFile != "", S3},
		{"credentials.secret_key_file", c.Credentials.SecretKeyFile != "", S3},
		{"credentials.session_token_file", c.Credentials.SessionTokenFile != "", S3},
		{"credentials.service_account_file", c.Credentials.ServiceAccountFile != "", GCS},
		{"credentials.account_key_file", c.Credentials.AccountKeyFile != "", Azure},
		{"credentials.sas_token_file", c.Credentials.SASTokenFile != "", Azure},
	} {
		fit := strings.Fields(s.schemes)
		if s.set && !slices.Contains(fit, c.url.Scheme) {
			c.report(s.field, "cannot be combined with "+c.url.Scheme+"://: it is a setting of "+strings.Join(fit, "://, ")+"://", "remove it")
		}
	}
	if c.url.Scheme == Azure && c.Account == "" && c.Endpoint == "" {
		c.report("account", "missing: set the storage account", "write account: NAME, or set endpoint")
	}
	c.checkAttributes()
}

var (
	legalAccount = regexp.MustCompile(`^[a-z0-9]{3,24}$`)
	legalRegion  = regexp.MustCompile(`^[a-zA-Z0-9-]{1,64}$`)
	amazonRegion = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)
	legalClass   = regexp.MustCompile(`^[A-Za-z_]{1,64}$`)
	legalKMSKey  = regexp.MustCompile(`^arn:[a-z-]+:kms:[a-z0-9-]*:[0-9]*:(key|alias)/.+$`)
	legalTag     = regexp.MustCompile(`^[a-zA-Z0-9 +\-=._:/@]*$`)
)

// archives are the storage classes whose objects cannot be read. The sink compares what it has uploaded
// in the pre-check.
var archives = map[string][]string{S3: {"GLACIER", "DEEP_ARCHIVE"}, Azure: {"ARCHIVE"}}

// Limits of tags, which the stores have in common.
const (
	maxTags     = 10
	maxTagKey   = 128
	maxTagValue = 256
)

// checkAttributes checks the values of the settings that belong to a store.
func (c *checker) checkAttributes() {
	if c.Account != "" && !legalAccount.MatchString(c.Account) {
		c.report("account", "invalid storage account "+strconv.Quote(c.Account)+": must be 3 to 24 lower-case letters and digits", "write the name alone, without .blob.core.windows.net")
	}
	if c.Region != "" && !legalRegion.MatchString(c.Region) {
		c.report("region", "invalid region "+strconv.Quote(c.Region), "write it as the store shows it, such as eu-central-1")
	} else if c.Region != "" && c.url.Scheme == S3 && c.Endpoint == "" && !amazonRegion.MatchString(c.Region) {
		c.report("region", "invalid region "+strconv.Quote(c.Region)+" of Amazon S3", "write the code of the region, such as eu-central-1; a compatible store requires endpoint")
	}
	if c.StorageClass != "" && !legalClass.MatchString(c.StorageClass) {
		c.report("storage_class", "invalid storage class "+strconv.Quote(c.StorageClass), "write it as the store names it, such as STANDARD_IA")
	} else if slices.Contains(archives[c.url.Scheme], strings.ToUpper(c.StorageClass)) {
		c.report("storage_class", "objects of class "+c.StorageClass+" cannot be read until they are restored", "use another class, and a lifecycle rule that moves objects later")
	}
	if s := c.ServerSideEncryption; s != "" && s != "AES256" && !legalKMSKey.MatchString(s) {
		c.report("server_side_encryption", "invalid value "+strconv.Quote(s), "use AES256 or the ARN of a KMS key, such as arn:aws:kms:eu-central-1:111122223333:key/…")
	}
	if len(c.Tags) > maxTags {
		c.report("tags", fmt.Sprintf("%d tags are more than %d", len(c.Tags), maxTags), "")
	}
	for _, k := range slices.Sorted(maps.Keys(c.Tags)) {
		v := c.Tags[k]
		if k == "" || utf8.RuneCountInString(k) > maxTagKey || utf8.RuneCountInString(v) > maxTagValue || !legalTag.MatchString(k) || !legalTag.MatchString(v) {
			c.report("tags."+k, fmt.Sprintf("invalid tag %q: a name has 1 to %d characters, a value at most %d, of letters, digits, space and + - = . _ : / @", k, maxTagKey, maxTagValue), "")
		}
	}
}

// checkCredentials checks which files belong together.
func (c *checker) checkCredentials() {
	f := c.Credentials
	switch {
	case f.AccessKeyFile != "" && f.SecretKeyFile == "":
		c.report("credentials.access_key_file", "requires secret_key_file", "add secret_key_file")
	case f.AccessKeyFile == "" && f.SecretKeyFile != "":
		c.report("credentials.secret_key_file", "requires access_key_file", "add access_key_file")
	case f.SessionTokenFile != "" && f.AccessKeyFile == "":
		c.report("credentials.session_token_file", "requires access_key_file and secret_key_file", "add both, or remove it")
	}
	if f.AccountKeyFile != "" && f.SASTokenFile != "" {
		c.report("credentials.sas_token_file", "cannot be combined with account_key_file", "remove one")
	}
}
