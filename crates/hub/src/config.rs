//! What an operator may set of a hub: one struct, one TOML file, every field with a default.
//!
//! ```toml
//! listen = "127.0.0.1:8420"     # elsewhere only with a token_file or [nodes], and with [tls] or behind_proxy
//! data = "selvedge-data/hub"    # the database, and what is on its way in
//! database = "postgres://hub@db/selvedge"   # instead of a file in data; may be shared by several hubs
//! # database_file = "/etc/selvedge/database"  # the same, where the password stands in it
//!
//! [depot]                       # where packages lie
//! folder = "/srv/packages"      # absent: `packages` in `data`
//! # [depot.s3]                  # or a bucket; see docs/packages.md
//! # bucket = "models"
//! # prefix = "selvedge"
//! # endpoint = "https://minio:9000"
//! # region = "eu-north-1"
//! # credentials_file = "/etc/selvedge/bucket"   # absent: AWS_ACCESS_KEY_ID and the other variables of Amazon's tools
//!
//! [registry]                    # how packages come in
//! blob_max_bytes = 274877906944
//! uploads_max = 64
//! upload_rest_hours = 24
//!
//! [tuf]                         # whose metadata is taken
//! root = "sha256:…"             # of 1.root.json; absent: the first that is put
//! accept = ["hybrid"]
//! online_key = "timestamp.age"  # the hub signs timestamps itself; see docs/trust.md
//! snapshot_key = "snapshot.age" # and snapshots
//! passphrase_file = "passphrase"
//!
//! [tls]                         # people come over TLS; elsewhere than on loopback they do, or behind_proxy = true
//! cert = "hub.pem"
//! key = "hub.key"
//!
//! [oidc]                        # people sign in elsewhere; see docs/identity.md
//! issuer = "https://id.example.org"
//! client_id = "selvedge"
//! client_secret_file = "oidc.secret"
//! url = "https://hub.example.org:8420"
//! roles = { fleet-admins = "admin", fleet = "operator" }
//!
//! [nodes]                       # a door for nodes with certificates; see docs/identity.md
//! listen = "0.0.0.0:8421"
//! names = ["hub.example.org"]
//!
//! [identity]                    # who makes these
//! keys = "/etc/selvedge/keys"   # absent: `keys` in `data`; several hubs on one database have one
//! node_days = 365
//! # [[identity.factory]]        # makers whose devices come in by themselves
//! # ca = "maker.pem"
//! # serials = "allowed.txt"
//! # name = "sn-{serial}"
//!
//! [audit]                       # who did what, as a log that can only grow; see docs/audit.md
//! key_file = "audit.key"        # what signs it; absent: `audit.key` in [identity] keys or in `data`, made at the first start
//! origin = "example.org/hub"    # the log's name; absent: after its key
//!
//! [keep]                        # for how long what nodes sent stays; see docs/hub.md
//! audit = "400d"                # never less than 183d
//! event = "90d"
//! metric = "30d"
//! raw = "7d"
//! samples = "400d"              # how models behaved, by day
//!
//! [archive]                     # days that are over, as Parquet in the depot, before they go
//! on = true
//! after = "1d"
//! ```

pub mod database;
pub mod keep;
pub mod nodes;
pub mod people;

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use package::digest::{Digest, DigestError};
use package::trust::key::{KeyKind, KindSet};
use serde::{Deserialize, Serialize};

use self::database::{BadDatabase, DatabaseUrl};
use crate::config::keep::{AUDIT_MIN_DAYS, ArchiveConfig, Days, KeepConfig, SAMPLES_MIN_DAYS};
use crate::config::nodes::{IdentityConfig, NodesConfig};
use crate::config::people::{OidcConfig, TlsConfig};

/// The settings of a hub. [`HubConfig::parse`] reads them from TOML; [`HubConfig::check`] runs at start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HubConfig {
    /// Where to listen. Anything but this machine itself needs a token, and TLS.
    pub listen: SocketAddr,
    /// The certificate that people see; absent: no TLS.
    pub tls: Option<TlsConfig>,
    /// What stands before the hub speaks TLS with people, and nobody reaches the hub but through it.
    pub behind_proxy: bool,
    /// Where else people sign in.
    pub oidc: Option<OidcConfig>,
    /// The folder of the store. It is made if it is not there.
    pub data: PathBuf,
    /// A PostgreSQL server instead of a file in `data`; several hubs may share it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseUrl>,
    /// A file whose first line is that address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_file: Option<PathBuf>,
    /// A file with the token that nodes and people must show; its only content, at least 16 characters.
    pub token_file: Option<PathBuf>,
    /// Nobody is asked who they are, also where nodes have a door of their own: for a hub that only its machine reaches.
    pub open: bool,
    /// Host names under which browsers may reach the hub, beside `localhost` and plain IP addresses.
    pub hosts: Vec<String>,
    /// How often a node should check in, in milliseconds; stretched when the fleet is large or the hub is busy.
    pub check_in_ms: u64,
    /// The most nodes the hub takes in.
    pub nodes_max: u64,
    /// The most open connections; further ones wait in the system's queue.
    pub connections_max: usize,
    /// The most nodes that may hold a call until there is news for them; never more than half of their door's connections.
    pub polls_max: usize,
    /// The most pages and programs that may follow live at once.
    pub live_max: usize,
    /// Where packages lie.
    pub depot: DepotConfig,
    /// How packages come in.
    pub registry: RegistryConfig,
    /// Who may say that they are genuine.
    pub tuf: TufConfig,
    /// For how long records stay.
    pub keep: KeepConfig,
    /// Records as files, beside packages.
    pub archive: ArchiveConfig,
    /// The published audit log.
    pub audit: AuditConfig,
    /// The nodes' own door, if they have one.
    pub nodes: Option<NodesConfig>,
    /// The authority of their certificates.
    pub identity: IdentityConfig,
}

/// `[audit]`: the log of what was done, as it is published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// The key that signs it: a file of 64 hexadecimal digits. Several hubs on one database have one.
    pub key_file: Option<PathBuf>,
    /// What the log is called, without spaces and `+`; unless told, after its key. It never changes.
    pub origin: Option<String>,
}

/// `[depot]`: where packages, their metadata and assignments lie. Either a folder or a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DepotConfig {
    /// The folder; unless told, `packages` beside the hub's database.
    pub folder: Option<PathBuf>,
    /// A bucket of a store that speaks S3.
    pub s3: Option<S3Config>,
}

/// `[depot.s3]`: a bucket. What is not told here stands in the variables of Amazon's own tools: `AWS_ACCESS_KEY_ID` and
/// `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// The bucket; it must be there.
    pub bucket: String,
    /// What the hub's keys begin with, so that a bucket can hold other things, too.
    #[serde(default)]
    pub prefix: String,
    /// The store's address, if it is not Amazon's: `https://host:port`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The store's region.
    #[serde(default)]
    pub region: Option<String>,
    /// A file with who we are there, as `aws configure` writes it; its part `[default]` counts.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
}

impl S3Config {
    /// Whether its words can be what they should be. An address never carries a key: it would end up in logs.
    fn check(&self) -> Result<(), ConfigError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if self.bucket.is_empty() || self.bucket.len() > 255 || !self.bucket.chars().all(plain) {
            return Err(ConfigError::Bucket(self.bucket.clone()));
        }
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        let host = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
        let odd = |c: char| c.is_whitespace() || matches!(c, '@' | '?' | '#');
        match host {
            Some(host) if !host.is_empty() && !host.contains(odd) => Ok(()),
            _ => Err(ConfigError::Endpoint),
        }
    }
}

/// `[registry]`: how packages come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryConfig {
    /// The most bytes of one file of a package. Until it is whole it lies in `uploads` beside the hub's database.
    pub blob_max_bytes: u64,
    /// The most files that may be on their way in at once.
    pub uploads_max: usize,
    /// How long a file may rest on its way in before it is dropped, in hours.
    pub upload_rest_hours: u64,
}

/// `[tuf]`: whose metadata the hub takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TufConfig {
    /// The first root, as `sha256:…`. Unless told, the first one that is put here is believed.
    pub root: Option<String>,
    /// Which kinds of keys count.
    pub accept: Vec<Accept>,
    /// Timestamp's key, if the hub shall sign timestamps.
    pub online_key: Option<PathBuf>,
    /// Snapshot's key, if the hub shall sign snapshots, too.
    pub snapshot_key: Option<PathBuf>,
    /// A file whose first line opens both.
    pub passphrase_file: Option<PathBuf>,
}

/// A kind of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accept {
    /// Ed25519 and ML-DSA-65 together.
    Hybrid,
    /// Ed25519 alone.
    Ed25519,
    /// ECDSA on P-256.
    EcdsaP256,
    /// RSA with PSS.
    RsaPss,
}

impl Default for RegistryConfig {
    fn default() -> RegistryConfig {
        RegistryConfig { blob_max_bytes: 256 << 30, uploads_max: 64, upload_rest_hours: 24 }
    }
}

impl Default for TufConfig {
    fn default() -> TufConfig {
        TufConfig {
            root: None,
            accept: vec![Accept::Hybrid],
            online_key: None,
            snapshot_key: None,
            passphrase_file: None,
        }
    }
}

impl TufConfig {
    /// Which kinds of keys count.
    pub fn kinds(&self) -> KindSet {
        let kind = |accept: &Accept| match accept {
            Accept::Hybrid => KeyKind::Hybrid,
            Accept::Ed25519 => KeyKind::Ed25519,
            Accept::EcdsaP256 => KeyKind::EcdsaP256,
            Accept::RsaPss => KeyKind::RsaPss,
        };
        self.accept.iter().map(kind).collect()
    }

    /// The digest of the first root, if only one is taken.
    pub fn first_root(&self) -> Result<Option<Digest>, DigestError> {
        self.root.as_deref().map(Digest::parse).transpose()
    }
}

impl Default for HubConfig {
    fn default() -> HubConfig {
        HubConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 8420)),
            tls: None,
            behind_proxy: false,
            oidc: None,
            data: PathBuf::from("selvedge-data/hub"),
            database: None,
            database_file: None,
            token_file: None,
            open: false,
            hosts: Vec::new(),
            check_in_ms: 10_000,
            nodes_max: 20_000,
            connections_max: 2048,
            polls_max: 512,
            live_max: 256,
            depot: DepotConfig::default(),
            registry: RegistryConfig::default(),
            tuf: TufConfig::default(),
            nodes: None,
            identity: IdentityConfig::default(),
            audit: AuditConfig::default(),
            keep: KeepConfig::default(),
            archive: ArchiveConfig::default(),
        }
    }
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, an unknown field, or a value of the wrong type.
    #[error("the hub's config is not valid: {0}")]
    Toml(#[from] toml::de::Error),
    /// A number outside its range.
    #[error("{field} is {value}; it must be {low} to {high}")]
    Range {
        /// Which field.
        field: &'static str,
        /// What was asked for.
        value: u64,
        /// The least allowed.
        low: u64,
        /// The most allowed.
        high: u64,
    },
    /// A host name with characters that no host name has.
    #[error("hosts has {0:?}, which is not a host name; write it without scheme, port or path")]
    Host(String),
    /// The same, of the names in the hub's certificate.
    #[error("names in [nodes] has {0:?}, which is neither a host name nor an address")]
    Name(String),
    /// Not a name of devices.
    #[error("name in [[identity.factory]] is {0:?}; write it such as \"sn-{{serial}}\", in small letters")]
    FactoryName(String),
    /// Two places for one thing.
    #[error("[depot] has both a folder and s3; packages lie in one of them")]
    TwoDepots,
    /// Not the name of a bucket.
    #[error("bucket in [depot.s3] is {0:?}; write its name alone, without scheme, host or path")]
    Bucket(String),
    /// Not an address, or one with more in it. It is not shown: there may be a key in it.
    #[error(
        "endpoint in [depot.s3] is not https://host:port; keys stand in credentials_file or in the variables \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, never in an address"
    )]
    Endpoint,
    /// Not a digest.
    #[error("root in [tuf] is no digest; write it as sha256: and what `sha256sum 1.root.json` says")]
    Root(#[source] DigestError),
    /// Records that an auditor asks for would be gone too soon.
    #[error(
        "audit in [keep] is {0}; what an auditor asks for is kept for {AUDIT_MIN_DAYS}d at least: set {AUDIT_MIN_DAYS}d or more"
    )]
    KeepAudit(Days),
    /// Half of what signing takes.
    #[error("snapshot_key in [tuf] needs online_key: a snapshot that no timestamp names is seen by nobody")]
    SnapshotAlone,
    /// The outside world may reach the hub, and nothing would stop it.
    #[error(
        "the hub would listen on {0}, which others can reach, without a token; set token_file, or listen on 127.0.0.1"
    )]
    OpenToAll(SocketAddr),
    /// Nobody could sign in.
    #[error("[oidc] cannot be used: {0}")]
    Oidc(&'static str),
    /// The secret of `[oidc]`.
    #[error("cannot read the client_secret_file of [oidc]")]
    OidcSecret(#[source] std::io::Error),
    /// Tokens would travel in the open.
    #[error(
        "the hub would listen on {0} without TLS, and tokens and sessions could be read on their way; add [tls] with cert and \
         key, or set behind_proxy = true if what stands before the hub speaks TLS, or listen on 127.0.0.1"
    )]
    Plain(SocketAddr),
    /// Not the address of a database.
    #[error(transparent)]
    Database(#[from] BadDatabase),
    /// Two databases.
    #[error("database and database_file are both set; one of them says where the database is")]
    TwoDatabases,
    /// The file with its address cannot be read.
    #[error(
        "cannot read the database_file {path}; its first line is postgres://user:password@host:port/name"
    )]
    DatabaseFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The token file cannot be read.
    #[error("cannot read the token file {path}; write a token into it: head -c 24 /dev/urandom | base64")]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The token is too easy to guess, or cannot stand in a header.
    #[error(
        "the token in {path} must have {TOKEN_MIN} to {TOKEN_MAX} visible ASCII characters and nothing else; \
         make one: head -c 24 /dev/urandom | base64"
    )]
    BadToken {
        /// The file it came from.
        path: PathBuf,
    },
}

/// The most bytes of a file with the address of a database.
const DATABASE_MAX: u64 = 4096;
/// The fewest characters of a token.
pub const TOKEN_MIN: usize = 16;
/// The most characters of a token.
pub const TOKEN_MAX: usize = 512;

impl HubConfig {
    /// Reads TOML. The error of the parser carries the span, so that a caller can show the line.
    pub fn parse(toml: &str) -> Result<HubConfig, ConfigError> {
        Ok(toml::from_str(toml)?)
    }

    /// Checks what types cannot say. Does not look at the token file; [`HubConfig::read_token`] does.
    pub fn check(&self) -> Result<(), ConfigError> {
        let within = |field, value, low, high| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(ConfigError::Range { field, value, low, high })
            }
        };
        within("check_in_ms", self.check_in_ms, 100, 86_400_000)?;
        within("nodes_max", self.nodes_max, 1, 10_000_000)?;
        within("connections_max", self.connections_max as u64, 8, 1_000_000)?;
        within("polls_max", self.polls_max as u64, 0, 100_000)?;
        within("live_max", self.live_max as u64, 1, 100_000)?;
        within("blob_max_bytes", self.registry.blob_max_bytes, 1 << 20, 1 << 50)?;
        within("uploads_max", self.registry.uploads_max as u64, 1, 10_000)?;
        within("upload_rest_hours", self.registry.upload_rest_hours, 1, 24 * 365)?;
        within("samples", self.keep.samples.get().unsigned_abs(), SAMPLES_MIN_DAYS, 36_500)?;
        if self.keep.audit < Days::of(AUDIT_MIN_DAYS) {
            return Err(ConfigError::KeepAudit(self.keep.audit));
        }
        if self.database.is_some() && self.database_file.is_some() {
            return Err(ConfigError::TwoDatabases);
        }
        self.tuf.first_root().map_err(ConfigError::Root)?;
        if self.tuf.snapshot_key.is_some() && self.tuf.online_key.is_none() {
            return Err(ConfigError::SnapshotAlone);
        }
        if self.depot.folder.is_some() && self.depot.s3.is_some() {
            return Err(ConfigError::TwoDepots);
        }
        self.depot.s3.as_ref().map_or(Ok(()), S3Config::check)?;
        for host in &self.hosts {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
            if host.is_empty() || host.len() > 253 || !host.chars().all(good) {
                return Err(ConfigError::Host(host.clone()));
            }
        }
        within("node_days", self.identity.node_days.into(), 1, 3650)?;
        if let Some(bad) = self.identity.factory.iter().find(|factory| !factory.has_good_name()) {
            return Err(ConfigError::FactoryName(bad.name.clone()));
        }
        if let Some(nodes) = &self.nodes {
            within("connections_max", nodes.connections_max as u64, 8, 1_000_000)?;
            if let Some(name) = nodes.bad_name() {
                return Err(ConfigError::Name(name.to_owned()));
            }
        }
        if let Some(problem) = self.oidc.as_ref().and_then(OidcConfig::problem) {
            return Err(ConfigError::Oidc(problem));
        }
        let asks = self.nodes.is_some() || self.oidc.is_some();
        let is_open = self.token_file.is_none() && (self.open || !asks);
        if is_open && !self.listen.ip().is_loopback() {
            return Err(ConfigError::OpenToAll(self.listen));
        }
        if !self.listen.ip().is_loopback() && self.tls.is_none() && !self.behind_proxy {
            return Err(ConfigError::Plain(self.listen));
        }
        Ok(())
    }

    /// Whether people come over TLS, here or at what stands before the hub.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some() || self.behind_proxy
    }

    /// The folder of keys.
    pub fn keys(&self) -> PathBuf {
        self.identity.keys.clone().unwrap_or_else(|| self.data.join("keys"))
    }

    /// The database server, if there is one.
    pub fn read_database(&self) -> Result<Option<DatabaseUrl>, ConfigError> {
        let Some(path) = &self.database_file else { return Ok(self.database.clone()) };
        let cannot = |source| ConfigError::DatabaseFile { path: path.clone(), source };
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(DATABASE_MAX).read_to_string(&mut text))
            .map_err(cannot)?;
        Ok(Some(text.lines().next().unwrap_or_default().parse()?))
    }

    /// The token, if one is configured.
    pub fn read_token(&self) -> Result<Option<String>, ConfigError> {
        self.token_file.as_deref().map(read_token).transpose()
    }
}

fn read_token(path: &Path) -> Result<String, ConfigError> {
    let mut text = String::new();
    // Room for blank space around it; a device would give bytes without an end.
    File::open(path)
        .and_then(|file| file.take(2 * TOKEN_MAX as u64).read_to_string(&mut text))
        .map_err(|source| ConfigError::TokenFile { path: path.to_owned(), source })?;
    let token = text.trim();
    let good = (TOKEN_MIN..=TOKEN_MAX).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    if good { Ok(token.to_owned()) } else { Err(ConfigError::BadToken { path: path.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default_and_a_typo_is_not() {
        assert_eq!(HubConfig::parse("").unwrap(), HubConfig::default());
        let error = HubConfig::parse("listem = \"127.0.0.1:1\"").unwrap_err().to_string();
        assert!(error.contains("listem") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn checks() {
        fn check(toml: &str, expected: &str) {
            let found = HubConfig::parse(toml).unwrap().check().err().map(|error| error.to_string());
            match found {
                None => assert_eq!(expected, "", "{toml}"),
                Some(found) => assert!(!expected.is_empty() && found.contains(expected), "{toml}: {found}"),
            }
        }
        check("", "");
        check("listen = \"[::1]:0\"", "");
        check("listen = \"0.0.0.0:8420\"", "without a token");
        check("listen = \"0.0.0.0:8420\"\ntoken_file = \"t\"", "without TLS");
        check("listen = \"0.0.0.0:8420\"\ntoken_file = \"t\"\nbehind_proxy = true", "");
        check("listen = \"0.0.0.0:8420\"\ntoken_file = \"t\"\n[tls]\ncert = \"c\"\nkey = \"k\"", "");
        check(
            "listen = \"0.0.0.0:8420\"\nopen = true\n[nodes]\nlisten = \"0.0.0.0:8421\"",
            "without a token",
        );
        check("[[identity.factory]]\nca = \"m.pem\"\nserials = \"s\"", "");
        check("[oidc]\nissuer = \"http://127.0.0.1.example.org\"", "[oidc] cannot be used");
        check("[[identity.factory]]\nca = \"m.pem\"\nserials = \"s\"\nname = \"SN\"", "is \"SN\"");
        check("check_in_ms = 1", "check_in_ms is 1");
        check("database = \"postgres://hub@db/selvedge\"", "");
        check("database = \"postgres://hub@db/x\"\ndatabase_file = \"d\"", "both set");
        check("hosts = [\"hub.example.org\"]", "");
        check("hosts = [\"http://hub\"]", "not a host name");
        check("[keep]\naudit = \"183d\"\nraw = \"1d\"", "");
        check("[keep]\naudit = \"182d\"", "audit in [keep] is 182d; ");
        check("[keep]\nsamples = \"27d\"", "samples is 27");
        check("[registry]\nuploads_max = 0", "uploads_max is 0");
        check("[tuf]\nroot = \"1.root.json\"\naccept = [\"hybrid\", \"ecdsa-p256\"]", "no digest");
        check("[tuf]\nsnapshot_key = \"snapshot.age\"", "needs online_key");
        check("[depot]\nfolder = \"p\"\n[depot.s3]\nbucket = \"b\"", "both a folder and s3");
        check("[depot.s3]\nbucket = \"b\"\nendpoint = \"http://127.0.0.1:9000\"", "");
        check("[depot.s3]\nbucket = \"s3://b/prefix\"", "is \"s3://b/prefix\"");
        check("[depot.s3]\nbucket = \"b\"\nendpoint = \"minio:9000\"", "is not https://host:port");
        check("[depot.s3]\nbucket = \"b\"\nendpoint = \"http://id:secret@minio\"", "never in an address");
    }

    #[test]
    fn tokens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let read = |content: Option<&str>| {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            HubConfig { token_file: Some(path.clone()), ..HubConfig::default() }.read_token()
        };
        assert!(matches!(read(None), Err(ConfigError::TokenFile { .. })));
        assert!(matches!(read(Some("short\n")), Err(ConfigError::BadToken { .. })));
        assert!(matches!(read(Some("sixteen letters and spaces")), Err(ConfigError::BadToken { .. })));
        assert!(matches!(read(Some(&"x".repeat(100_000))), Err(ConfigError::BadToken { .. })));
        assert_eq!(read(Some("0123456789abcdef\n")).unwrap().as_deref(), Some("0123456789abcdef"));
    }
}
