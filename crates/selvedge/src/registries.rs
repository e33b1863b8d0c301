//! Where packages are, the hub or any OCI registry, and what a release there says of itself before any of its layers come.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use forge::parcel::Entry;
use node::transfer::origin::Fault;
use node::transfer::registry::{Login, Registry};
use package::descriptor::Descriptor;
use package::digest::Digest;
use package::index::Release;
use package::manifest::Manifest;
use package::media;
use package::registry::{Address, Reference, RepoName, Tag};
use reqwest::{Certificate, Url};

use crate::complaint::Usage;
use crate::login;

/// The longest time in which nothing comes.
const IDLE: Duration = Duration::from_secs(30);

/// What all documents of a release may have together.
const DOCUMENTS_MAX_BYTES: u64 = 64 << 20;

/// So many tags are told to somebody who named none of them.
const TAGS_TOLD: usize = 8;

/// Which hub, and who we are to it or to another registry.
#[derive(clap::Args)]
pub(crate) struct Registries {
    /// The hub's address; without it that of `selvedge login`.
    #[arg(long, value_name = "URL", env = "SELVEDGE_HUB", default_value_t = login::hub(), hide_default_value = true)]
    pub(crate) hub: Url,

    /// A file with the token or password for the server; without it, at that hub, the token of `selvedge login`.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// The name that goes with it to a registry; a hub takes any.
    #[arg(long, value_name = "NAME", default_value = "selvedge")]
    pub(crate) user: String,

    /// A file with certificates of authorities that vouch for the server, beside those of the system; without it, at that hub,
    /// those of `selvedge login`.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// How a registry that is read is talked to.
pub(crate) struct Access {
    login: Login,
    authorities: Vec<Certificate>,
}

/// A repository of a registry, and which of its manifests is meant, if that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The registry: `https://host:port/`.
    pub(crate) base: Url,
    pub(crate) name: RepoName,
    pub(crate) reference: Option<Reference>,
}

/// Whether these words name a place of packages, and not a file.
pub(crate) fn is_place(words: &str) -> bool {
    words.starts_with("oci://") || words.starts_with("hub:")
}

impl Registries {
    /// The token or password for this server, if there is one.
    pub(crate) fn token(&self, server: &Url) -> anyhow::Result<Option<String>> {
        login::token(server, self.token_file.as_deref())
    }

    /// The token or password in the file that was named.
    pub(crate) fn named_token(&self) -> anyhow::Result<Option<String>> {
        self.token_file.as_deref().map(login::read_token).transpose()
    }

    /// Whom to believe about this server, beside the system's authorities.
    pub(crate) fn authorities(&self, server: &Url) -> anyhow::Result<Vec<Certificate>> {
        login::authorities(server, self.ca.as_deref())
    }

    /// Who we are to this registry that is read, and whom we believe about it.
    pub(crate) fn access(&self, server: &Url) -> anyhow::Result<Access> {
        let login = self.token(server)?.map(|password| Login::Basic { user: self.user.clone(), password });
        Ok(Access { login: login.unwrap_or_default(), authorities: self.authorities(server)? })
    }

    /// Reads `hub:NAME[:TAG]`, `oci://HOST/NAME[:TAG]` and `…@DIGEST`. Plain HTTP is spoken with this machine only, unless the
    /// hub's address says it.
    pub(crate) fn place(&self, words: &str) -> anyhow::Result<Place> {
        place(words, &self.hub)
    }
}

fn place(words: &str, hub: &Url) -> anyhow::Result<Place> {
    let usage = |error: package::registry::WordError| Usage(error.to_string());
    if let Some(rest) = words.strip_prefix("hub:") {
        let (name, reference) = match (rest.split_once('@'), rest.split_once(':')) {
            (Some((name, digest)), _) => (name, Some(Reference::parse(digest).map_err(usage)?)),
            (None, Some((name, tag))) => (name, Some(Reference::Tag(Tag::new(tag).map_err(usage)?))),
            (None, None) => (rest, None),
        };
        return Ok(Place { base: hub.join("/")?, name: RepoName::new(name).map_err(usage)?, reference });
    }
    let Address { host, name, reference } = Address::parse(words).map_err(usage)?;
    let is_named = words.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let url = Url::parse(&format!("https://{host}/")).map_err(|_| Usage(format!("{host:?} is no host")))?;
    let is_here = match url.host_str().unwrap_or_default().trim_matches(['[', ']']) {
        "localhost" => true,
        host => host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()),
    };
    let base = if is_here { Url::parse(&format!("http://{host}/"))? } else { url };
    Ok(Place { base, name, reference: is_named.then_some(reference) })
}

/// A release as its documents tell it: nobody has vouched for any of them yet, but each has its digest.
pub(crate) struct Found {
    /// Where it is.
    pub(crate) registry: Registry,
    pub(crate) entry: Entry,
    /// Manifests and configs.
    pub(crate) documents: BTreeMap<Digest, Vec<u8>>,
}

/// Asks a registry for a release: its index, all manifests and their configs, and no layer.
pub(crate) async fn find(place: &Place, access: &Access) -> anyhow::Result<Found> {
    let registry = Registry::new(place.base.as_str(), place.name.clone(), &access.login, IDLE)?;
    let registry = registry.with_authorities(&access.authorities)?;
    let reference = match &place.reference {
        Some(reference) => reference.clone(),
        None => newest(&registry, place).await?,
    };
    let bytes = match registry.manifest(&reference).await {
        Ok(bytes) => bytes,
        Err(Fault::NotThere) => return Err(not_there(&registry, place, Some(&reference)).await),
        Err(fault) => return Err(refused(place, fault)),
    };
    let release = Release::read(&bytes)
        .with_context(|| format!("{} {reference} is no package of a model", place.name))?;
    let mut index = Descriptor::of(media::OCI_INDEX, &bytes);
    index.artifact_type = Some(media::PACKAGE.to_owned());
    let mut documents = BTreeMap::new();
    let mut bytes_left = DOCUMENTS_MAX_BYTES;
    let named = release.variants.iter().map(|variant| (&variant.manifest, true));
    for (named, is_variant) in named.chain(release.provenance.iter().map(|made| (made, false))) {
        let bytes = registry.manifest(&Reference::Digest(named.digest)).await;
        let bytes = bytes.map_err(|fault| refused(place, fault))?;
        let manifest = Manifest::parse(&bytes).with_context(|| format!("{} cannot be read", named.digest))?;
        let mut more = vec![(named.digest, bytes)];
        if is_variant && !documents.contains_key(&manifest.config.digest) {
            let config = registry.document(&manifest.config).await;
            more.push((manifest.config.digest, config.map_err(|fault| refused(place, fault))?));
        }
        for (digest, bytes) in more {
            let left = bytes_left.checked_sub(bytes.len() as u64);
            bytes_left = left.with_context(|| {
                format!("{}: its documents alone have more than {DOCUMENTS_MAX_BYTES} bytes", place.name)
            })?;
            documents.insert(digest, bytes);
        }
    }
    Ok(Found { registry, entry: Entry { index, bytes, release }, documents })
}

fn refused(place: &Place, fault: Fault) -> anyhow::Error {
    let (name, host) = (&place.name, place.base.authority());
    anyhow::Error::from(fault).context(format!("{host} does not give {name}"))
}

/// What is meant where no tag is named: `latest`, or the release with the highest number.
async fn newest(registry: &Registry, place: &Place) -> anyhow::Result<Reference> {
    let tags = registry.tags().await.map_err(|fault| match fault {
        Fault::NotThere => anyhow::anyhow!("{} has no {}", place.base.authority(), place.name),
        fault => refused(place, fault),
    })?;
    let latest = tags.iter().find(|tag| tag.as_str() == "latest");
    let highest =
        || tags.iter().filter_map(|tag| Some((tag.as_str().parse::<u64>().ok()?, tag))).max_by_key(|it| it.0);
    match latest.or_else(|| highest().map(|(_, tag)| tag)) {
        Some(tag) => Ok(Reference::Tag(tag.clone())),
        None => Err(not_there(registry, place, None).await),
    }
}

async fn not_there(registry: &Registry, place: &Place, wanted: Option<&Reference>) -> anyhow::Error {
    let (host, name) = (place.base.authority(), &place.name);
    let wanted = match wanted {
        Some(Reference::Digest(digest)) => format!("{name}@{digest}"),
        Some(Reference::Tag(tag)) => format!("{name}:{tag}"),
        None => format!("{name}:latest"),
    };
    let tags = registry.tags().await.unwrap_or_default();
    let told: Vec<String> = tags.iter().take(TAGS_TOLD).map(ToString::to_string).collect();
    match told.is_empty() {
        true => anyhow::anyhow!("{host} has no {wanted}"),
        false => anyhow::anyhow!("{host} has no {wanted}; it has {}", told.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    #[test]
    fn places() {
        let hub = Url::parse("http://hub:8420").unwrap();
        let check = |words: &str, base: &str, name: &str, reference: Option<&str>| {
            let reference = reference.map(|reference| Reference::parse(reference).unwrap());
            let expected =
                Place { base: Url::parse(base).unwrap(), name: RepoName::new(name).unwrap(), reference };
            assert!(is_place(words));
            assert_eq!(place(words, &hub).unwrap(), expected, "{words}");
        };
        check("hub:smollm2", "http://hub:8420/", "smollm2", None);
        check("hub:team/smollm2:7", "http://hub:8420/", "team/smollm2", Some("7"));
        check(&format!("hub:team/smollm2@{DIGEST}"), "http://hub:8420/", "team/smollm2", Some(DIGEST));
        check("oci://ghcr.io/team/a", "https://ghcr.io/", "team/a", None);
        check("oci://ghcr.io:444/team/a:v1", "https://ghcr.io:444/", "team/a", Some("v1"));
        check(&format!("oci://ghcr.io/a@{DIGEST}"), "https://ghcr.io/", "a", Some(DIGEST));
        check("oci://127.0.0.1:5000/a", "http://127.0.0.1:5000/", "a", None);
        check("oci://[::1]:5000/a:7", "http://[::1]:5000/", "a", Some("7"));
        check("oci://localhost/a", "http://localhost/", "a", None);
        let bad =
            ["smollm2", "hub:", "hub:A", "hub:a:b:c", "hub:a@7:8", "oci://host", "oci://host/a@sha256:00"];
        for bad in bad.into_iter().chain(["https://host/a"]) {
            assert!(place(bad, &hub).is_err(), "{bad}");
        }
    }
}
