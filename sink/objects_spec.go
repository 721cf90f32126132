package sink

import (
	"os"
	"path/filepath"
	"time"
)

// ObjectsSpec describes a sink that writes objects to an object store. In a normalised
// ObjectsSpec, which config.Parse returns, every field with a default is set except Spool, and
// {name} in URL, Key and Spool is replaced.
type ObjectsSpec struct {
	URL         string       `yaml:"url" doc:"Where the objects are stored: s3://bucket/prefix for Amazon S3 and compatible stores, gs://bucket/prefix for Google Cloud Storage, az://container/prefix for Azure Blob Storage, file:///folder for a folder on this host. {name} is replaced." default:"required" example:"s3://lake/kafka"`
	Region      string       `yaml:"region" doc:"Region of an S3 bucket." default:"that of the AWS environment, else us-east-1" example:"eu-central-1"`
	Endpoint    string       `yaml:"endpoint" doc:"URL of a compatible store, or of an emulator." default:"that of the provider" example:"https://minio:9000"`
	PathStyle   bool         `yaml:"path_style" doc:"Sends the bucket in the path of requests instead of the host name, as many compatible stores require." default:"false" example:"true"`
	Account     string       `yaml:"account" doc:"Storage account of Azure Blob Storage." default:"required for az:// without endpoint" example:"lake"`
	Credentials Credentials  `yaml:"credentials" doc:"Files with the credentials; they are read again when they change." default:"the usual chain of the store: environment, profile, workload identity, instance"`
	TLS         *ObjectsTLS  `yaml:"tls" doc:"How connections to the store are encrypted." default:"the system's authorities"`
	Key         string       `yaml:"key" doc:"Key of an object below url, without the extension. {name}, {topic}, {partition}, {first}, {last}, {topic_id} and {time:LAYOUT} are replaced; {topic}, {partition} and {first} are required. {first} and {last} are the first and last offset of the range, with 20 digits; {topic_id} is the beginning of the topic's id; LAYOUT formats the timestamp of the records as in Go." example:"'{topic}/{time:2006/01/02}/{partition}-{first}-{last}-{topic_id}'"`
	TimeZone    string       `yaml:"time_zone" doc:"Time zone of {time:LAYOUT}: UTC or a name of the IANA database." example:"Europe/Berlin"`
	Format      Format       `yaml:"format" doc:"json: one envelope per line. raw: the value and a newline." example:"raw"`
	Compression Compression  `yaml:"compression" doc:"How objects are compressed. The key gets the extension." example:"gzip"`
	Rotate      ObjectRotate `yaml:"rotate" doc:"When objects are complete. What remains at a pause, rebalance or stop is published, too."`
	Delivery    Delivery     `yaml:"delivery" doc:"exactly_once: each record is in one object after any crash. at_least_once: a crash may repeat records in further objects." example:"at_least_once"`
	Spool       string       `yaml:"spool" doc:"Folder on this host in which objects grow before they are uploaded." default:"kcagent-spool in $TMPDIR or /tmp" example:"/var/lib/kcagent/spool"`

	ServerSideEncryption string            `yaml:"server_side_encryption" doc:"AES256, or the ARN of a KMS key; for s3://." default:"that of the bucket" example:"AES256"`
	StorageClass         string            `yaml:"storage_class" doc:"Storage class of the objects, as the store names it." default:"that of the bucket" example:"STANDARD_IA"`
	Tags                 map[string]string `yaml:"tags" doc:"Tags of the objects." default:"none" example:"{team: billing}"`
}

// SetDefaults sets the limits that the file may leave out.
func (o *ObjectsSpec) SetDefaults() {
	o.Rotate = ObjectRotate{Size: 128 << 20, Every: 10 * time.Minute}
}

// SpoolFolder returns the folder of the spool: Spool, or the default of this process. It is not part
// of a normalised spec: kcagent plan, in another environment, would see a change.
func (o *ObjectsSpec) SpoolFolder() string {
	if o.Spool != "" {
		return o.Spool
	}
	return filepath.Join(os.TempDir(), "kcagent-spool")
}

// ObjectRotate says when a range of offsets is complete, so that its objects are published.
type ObjectRotate struct {
	Size  Size          `yaml:"size" doc:"An object is complete when it has this size, compressed, from 64KiB to 1TiB. It may exceed it by a chunk of records." example:"64MiB"`
	Every time.Duration `yaml:"every" doc:"Objects are complete after this time, by the clock or by the timestamps of their records, whichever comes first; from 1s to 366 days." example:"1h"`
}

// Credentials name files with the credentials of an object store. Each store uses its own.
type Credentials struct {
	AccessKeyFile      string `yaml:"access_key_file" doc:"File that holds the access key id, for s3://." default:"none" example:"/run/secrets/s3/access_key"`
	SecretKeyFile      string `yaml:"secret_key_file" doc:"File that holds the secret access key, for s3://." default:"none" example:"/run/secrets/s3/secret_key"`
	SessionTokenFile   string `yaml:"session_token_file" doc:"File that holds a session token, for s3://." default:"none" example:"/run/secrets/s3/session_token"`
	ServiceAccountFile string `yaml:"service_account_file" doc:"JSON key of a service account, for gs://." default:"none" example:"/run/secrets/gcs.json"`
	AccountKeyFile     string `yaml:"account_key_file" doc:"File that holds the key of the storage account, for az://." default:"none" example:"/run/secrets/azure/key"`
	SASTokenFile       string `yaml:"sas_token_file" doc:"File that holds a shared access signature, for az://." default:"none" example:"/run/secrets/azure/sas"`
}

// ObjectsTLS configures how connections to an object store are encrypted.
type ObjectsTLS struct {
	CAFile             string `yaml:"ca_file" doc:"PEM file of the certificate authorities to trust." default:"the system's authorities" example:"/etc/kcagent/s3-ca.pem"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify" doc:"Accepts any certificate. Only for tests." default:"false" example:"true"`
}
