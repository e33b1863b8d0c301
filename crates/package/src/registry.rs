//! The words of OCI distribution: names, tags, paths, challenges, refusals; and how a blob is pushed, step by step.
//!
//! Client and server speak with these; neither network nor files are touched here. What other registries answer is read
//! with limits. See <https://github.com/opencontainers/distribution-spec>.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestError};
use crate::form::decimal;
use crate::name::is_part;

/// The longest name of a repository.
const REPO_MAX: usize = 255;

/// The longest tag.
const TAG_MAX: usize = 128;

/// The longest header that is read.
const HEADER_MAX: usize = 8 << 10;

/// The longest body of a refusal that is read.
const REFUSAL_MAX: usize = 64 << 10;

/// How often a push may go back to where it was without having got further.
const TRIES: u32 = 3;

/// A word that names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// Not a repository.
    #[error("{text:?} is no name of a repository: use a-z, 0-9 and single '.', '_', '-' or '/' between them")]
    Repo {
        /// Its beginning.
        text: String,
    },
    /// Not a tag.
    #[error(
        "{text:?} is no tag: use 1 to {TAG_MAX} letters, digits, '.', '_' and '-', and neither '.' nor '-' first"
    )]
    Tag {
        /// Its beginning.
        text: String,
    },
    /// Not a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// Not an address.
    #[error(
        "{text:?} is no address of a package: use oci://host/name, oci://host/name:tag or oci://host/name@digest"
    )]
    Address {
        /// Its beginning.
        text: String,
    },
}

fn beginning(text: &str) -> String {
    text.chars().take(120).collect()
}

/// The name of a repository: `team/smollm2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoName(Box<str>);

impl RepoName {
    /// Checks a name.
    pub fn new(name: &str) -> Result<RepoName, WordError> {
        match name.len() <= REPO_MAX && name.split('/').all(is_part) {
            true => Ok(RepoName(name.into())),
            false => Err(WordError::Repo { text: beginning(name) }),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path of a blob.
    pub fn blob(&self, digest: &Digest) -> String {
        format!("/v2/{self}/blobs/{digest}")
    }

    /// The path at which a push begins.
    pub fn uploads(&self) -> String {
        format!("/v2/{self}/blobs/uploads/")
    }

    /// The path of a manifest or an index.
    pub fn manifest(&self, reference: &Reference) -> String {
        format!("/v2/{self}/manifests/{reference}")
    }

    /// The path of the list of tags.
    pub fn tags(&self) -> String {
        format!("/v2/{self}/tags/list")
    }

    /// The path of the manifests that speak of another.
    pub fn referrers(&self, subject: &Digest) -> String {
        format!("/v2/{self}/referrers/{subject}")
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a person calls a manifest; it may name another one tomorrow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

impl Tag {
    /// Checks a tag.
    pub fn new(tag: &str) -> Result<Tag, WordError> {
        let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let further = |c: char| first(c) || matches!(c, '.' | '-');
        match (1..=TAG_MAX).contains(&tag.len()) && tag.starts_with(first) && tag.chars().all(further) {
            true => Ok(Tag(tag.into())),
            false => Err(WordError::Tag { text: beginning(tag) }),
        }
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// The one that has this tag now.
    Tag(Tag),
    /// The one with these bytes.
    Digest(Digest),
}

impl Reference {
    /// Reads the last part of a manifest's path.
    pub fn parse(text: &str) -> Result<Reference, WordError> {
        match text.contains(':') {
            true => Ok(Reference::Digest(Digest::parse(text)?)),
            false => Tag::new(text).map(Reference::Tag),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Tag(tag) => write!(f, "{tag}"),
            Reference::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

/// Where a package is: `oci://host/name:tag`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The registry, `host` or `host:port`.
    pub host: String,
    /// The repository.
    pub name: RepoName,
    /// Which manifest; the tag `latest` if none was named.
    pub reference: Reference,
}

impl Address {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Result<Address, WordError> {
        let wrong = || WordError::Address { text: beginning(text) };
        let (host, path) =
            text.strip_prefix("oci://").and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if host.is_empty() || host.len() > 255 || !host.chars().all(known) {
            return Err(wrong());
        }
        let (name, reference) = match (path.split_once('@'), path.split_once(':')) {
            (Some((name, digest)), _) => (name, Reference::Digest(Digest::parse(digest)?)),
            (None, Some((name, tag))) => (name, Reference::Tag(Tag::new(tag)?)),
            (None, None) => (path, Reference::Tag(Tag::new("latest")?)),
        };
        Ok(Address { host: host.to_owned(), name: RepoName::new(name)?, reference })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { host, name, reference } = self;
        match reference {
            Reference::Tag(tag) => write!(f, "oci://{host}/{name}:{tag}"),
            Reference::Digest(digest) => write!(f, "oci://{host}/{name}@{digest}"),
        }
    }
}

/// What a registry asks for before it answers: the header `WWW-Authenticate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// A name and a password.
    Basic,
    /// A token that is had elsewhere.
    Bearer {
        /// The address that hands it out.
        realm: String,
        /// For whom it is meant.
        service: Option<String>,
        /// What it allows.
        scope: Option<String>,
    },
}

impl Challenge {
    /// Reads the header; the first challenge of a kind that we answer. `None` if there is none.
    pub fn parse(header: &str) -> Option<Challenge> {
        if header.len() > HEADER_MAX {
            return None;
        }
        let mut rest = header.trim_start();
        while !rest.is_empty() {
            let (scheme, behind) = token(rest)?;
            let (parameters, behind) = parameters(behind)?;
            let value = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("basic") {
                return Some(Challenge::Basic);
            }
            if let Some(realm) = value("realm").filter(|_| scheme.eq_ignore_ascii_case("bearer")) {
                return Some(Challenge::Bearer { realm, service: value("service"), scope: value("scope") });
            }
            rest = behind;
        }
        None
    }
}

/// A token of HTTP at the beginning, and what is behind it.
fn token(text: &str) -> Option<(&str, &str)> {
    let known = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c: char| !known(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// `a=b, c="d"` up to the next challenge, and what is behind it.
fn parameters(text: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let (mut found, mut rest) = (Vec::new(), text.trim_start());
    while let Some((name, behind)) = token(rest) {
        let Some(behind) = behind.trim_start().strip_prefix('=') else { break };
        let (value, behind) = value(behind.trim_start())?;
        found.push((name, value));
        rest = behind.trim_start_matches([' ', '\t', ',']);
    }
    let rest = rest.trim_start_matches([' ', '\t', ',']);
    // What has no `name=` behind its first word is a challenge; anything else cannot be read.
    (rest.is_empty() || token(rest).is_some_and(|_| rest.len() < text.len())).then_some((found, rest))
}

/// A token or a quoted string, and what is behind it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(word, behind)| (word.to_owned(), behind));
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((value, &quoted[at + 1..])),
            _ => value.push(c),
        }
    }
    None
}

/// Why a registry refuses, in the words of the specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryErrors {
    /// At least one.
    pub errors: Vec<RegistryError>,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryError {
    /// A word for machines.
    pub code: Code,
    /// For people.
    #[serde(default)]
    pub message: String,
}

/// The words of the specification for what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    /// The repository has no such blob.
    BlobUnknown,
    /// The push cannot go on like this.
    BlobUploadInvalid,
    /// There is no such push.
    BlobUploadUnknown,
    /// The bytes do not have the digest.
    DigestInvalid,
    /// The manifest names blobs that are not there.
    ManifestBlobUnknown,
    /// The manifest cannot be read.
    ManifestInvalid,
    /// There is no such manifest.
    ManifestUnknown,
    /// No repository can be called so.
    NameInvalid,
    /// There is no such repository.
    NameUnknown,
    /// Another length than was said.
    SizeInvalid,
    /// Who are you?
    Unauthorized,
    /// Not you.
    Denied,
    /// Not here.
    Unsupported,
    /// Too often.
    #[serde(rename = "TOOMANYREQUESTS")]
    TooManyRequests,
    /// A word of another version.
    #[serde(other)]
    Unknown,
}

impl RegistryErrors {
    /// One reason.
    pub fn one(code: Code, message: impl Into<String>) -> RegistryErrors {
        RegistryErrors { errors: vec![RegistryError { code, message: message.into() }] }
    }

    /// Reads the body of a refusal; `None` if it is something else, or longer than a refusal is.
    pub fn parse(body: &[u8]) -> Option<RegistryErrors> {
        let short = Some(body).filter(|body| body.len() <= REFUSAL_MAX)?;
        serde_json::from_slice(short).ok()
    }
}

impl fmt::Display for RegistryErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, RegistryError { code, message }) in self.errors.iter().take(4).enumerate() {
            let message: String = message.chars().filter(|c| !c.is_control()).take(200).collect();
            let between = if at > 0 { "; " } else { "" };
            match message.is_empty() {
                true => write!(f, "{between}{code:?}")?,
                false => write!(f, "{between}{message}")?,
            }
        }
        Ok(())
    }
}

/// Reads the range of a push, `0-1023`, both ends within; some write `bytes=` before it.
pub fn upload_range(header: &str) -> Option<Range<u64>> {
    let header = header.trim();
    let (first, last) = header.strip_prefix("bytes=").unwrap_or(header).split_once('-')?;
    let (first, end) = (decimal(first)?, decimal(last)?.checked_add(1)?);
    (first < end).then_some(first..end)
}

/// What to do next to push a blob. Locations are as the registry gave them: absolute, or beginning with `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadStep {
    /// HEAD: is it there already?
    Look {
        /// The path.
        path: String,
    },
    /// POST without body.
    Begin {
        /// The path.
        path: String,
    },
    /// PATCH with these bytes of the blob.
    Send {
        /// Where to.
        location: String,
        /// Which bytes; the headers `Content-Range` and `Content-Length` say so.
        range: Range<u64>,
    },
    /// GET: how far is it?
    Ask {
        /// Where.
        location: String,
    },
    /// PUT without body.
    Finish {
        /// Where to, with the digest.
        location: String,
    },
    /// The blob is there.
    Done,
}

/// What a registry answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told<'a> {
    /// The status.
    pub status: u16,
    /// The header `Location`.
    pub location: Option<&'a str>,
    /// The header `Range`.
    pub range: Option<&'a str>,
}

/// A push that cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// An answer that says no.
    #[error("the registry answered {status} to {doing}")]
    Refused {
        /// The status.
        status: u16,
        /// What was asked.
        doing: &'static str,
    },
    /// A push without a place to push to.
    #[error("the registry does not say where to send {digest}")]
    NoLocation {
        /// The blob.
        digest: Digest,
    },
    /// Again and again the same.
    #[error("{digest} does not get further than {sent_bytes} bytes")]
    Stuck {
        /// The blob.
        digest: Digest,
        /// How far it came.
        sent_bytes: u64,
    },
}

/// A blob on its way to a registry. Pure: it says what to ask and takes what was answered.
#[derive(Debug, Clone)]
pub struct Upload {
    name: RepoName,
    digest: Digest,
    size: u64,
    piece_bytes: u64,
    location: String,
    sent: u64,
    furthest: u64,
    tries: u32,
    step: UploadStep,
}

impl Upload {
    /// A blob of `size` bytes that is sent in pieces of at most `piece_bytes` (at least one).
    pub fn new(name: &RepoName, digest: Digest, size: u64, piece_bytes: u64) -> Upload {
        Upload {
            name: name.clone(),
            digest,
            size,
            piece_bytes: piece_bytes.max(1),
            location: String::new(),
            sent: 0,
            furthest: 0,
            tries: 0,
            step: UploadStep::Look { path: name.blob(&digest) },
        }
    }

    /// What to do now.
    pub fn step(&self) -> &UploadStep {
        &self.step
    }

    /// Takes the answer to [`Upload::step`]. After an error the push is over; a server's 5xx and 429 are for the caller to
    /// wait out and ask again, before they come here.
    pub fn take(&mut self, told: Told<'_>) -> Result<(), UploadError> {
        let refused = |doing| Err(UploadError::Refused { status: told.status, doing });
        self.step = match (self.step.clone(), told.status) {
            (UploadStep::Look { .. }, 200) | (UploadStep::Finish { .. }, 201 | 204) => UploadStep::Done,
            (UploadStep::Look { .. }, 404) => UploadStep::Begin { path: self.name.uploads() },
            (UploadStep::Look { .. }, _) => return refused("whether it has the blob"),
            (UploadStep::Begin { .. }, 201) => UploadStep::Done,
            (UploadStep::Begin { .. }, 202) => {
                self.sent = 0;
                self.goes_on_at(told)?;
                self.onward()
            }
            (UploadStep::Begin { .. }, _) => return refused("the beginning of a push"),
            (UploadStep::Send { range, .. }, 200..=202 | 204) => {
                let end = told.range.and_then(upload_range).map_or(range.end, |taken| taken.end);
                self.moved_to(end.min(range.end))?;
                if told.location.is_some() {
                    self.goes_on_at(told)?;
                }
                self.onward()
            }
            (UploadStep::Send { .. }, 416) => {
                self.again()?;
                UploadStep::Ask { location: self.location.clone() }
            }
            (UploadStep::Ask { .. }, 200..=204) => {
                let end = told.range.and_then(upload_range).map_or(0, |taken| taken.end);
                self.moved_to(end.min(self.size))?;
                if told.location.is_some() {
                    self.goes_on_at(told)?;
                }
                self.onward()
            }
            (UploadStep::Send { .. } | UploadStep::Ask { .. } | UploadStep::Finish { .. }, 404) => {
                self.again()?;
                UploadStep::Begin { path: self.name.uploads() }
            }
            (UploadStep::Send { .. }, _) => return refused("a piece of a blob"),
            (UploadStep::Ask { .. }, _) => return refused("how far a push is"),
            (UploadStep::Finish { .. }, _) => return refused("the end of a push"),
            (UploadStep::Done, _) => UploadStep::Done,
        };
        Ok(())
    }

    fn onward(&self) -> UploadStep {
        let location = self.location.clone();
        if self.sent < self.size {
            let end = self.size.min(self.sent.saturating_add(self.piece_bytes));
            return UploadStep::Send { location, range: self.sent..end };
        }
        let mark = if location.contains('?') { '&' } else { '?' };
        UploadStep::Finish { location: format!("{location}{mark}digest={}", self.digest) }
    }

    fn goes_on_at(&mut self, told: Told<'_>) -> Result<(), UploadError> {
        let location = told.location.filter(|location| !location.is_empty() && location.len() <= HEADER_MAX);
        self.location = location.ok_or(UploadError::NoLocation { digest: self.digest })?.to_owned();
        Ok(())
    }

    fn moved_to(&mut self, sent: u64) -> Result<(), UploadError> {
        let onward = sent > self.sent;
        self.sent = sent;
        if sent > self.furthest {
            (self.furthest, self.tries) = (sent, 0);
        }
        if onward { Ok(()) } else { self.again() }
    }

    fn again(&mut self) -> Result<(), UploadError> {
        self.tries += 1;
        match self.tries <= TRIES {
            true => Ok(()),
            false => Err(UploadError::Stuck { digest: self.digest, sent_bytes: self.furthest }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_name_a_repository() {
        for good in ["a", "smollm2", "team/smollm2", "a/b/c-d__e.f"] {
            assert_eq!(RepoName::new(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "/", "a/", "/a", "a//b", "..", "a/../b", "A", "a b", "a:b", &"a".repeat(256)] {
            assert!(RepoName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["7", "v1.0", "_x", "A-b.C", &"a".repeat(128)] {
            assert!(Tag::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", "-a", "a/b", "a b", "a\n", "ä", &"a".repeat(129)] {
            assert!(Tag::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_and_addresses() {
        let digest = Digest::of(b"{}");
        let check = |text: &str, path: &str| {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.name.manifest(&address.reference), path);
            assert_eq!(Address::parse(&address.to_string()).unwrap(), address);
        };
        check("oci://127.0.0.1:5000/a/b:7", "/v2/a/b/manifests/7");
        check("oci://ghcr.io/a/b", "/v2/a/b/manifests/latest");
        check(&format!("oci://[::1]:80/a@{digest}"), &format!("/v2/a/manifests/{digest}"));
        for bad in [
            "",
            "oci://",
            "oci://host",
            "http://h/a",
            "oci:///a",
            "oci://h/a:b:c",
            "oci://h/a@b",
            "oci://u@h/a",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Reference::parse(&digest.to_string()), Ok(Reference::Digest(digest)));
        assert!(Reference::parse("sha512:00").is_err());
        assert_eq!(RepoName::new("a").unwrap().blob(&digest), format!("/v2/a/blobs/{digest}"));
    }

    #[test]
    fn challenges() {
        fn check(header: &str, expected: Option<(&str, Option<&str>, Option<&str>)>) {
            let bearer = expected.map(|(realm, service, scope)| Challenge::Bearer {
                realm: realm.into(),
                service: service.map(str::to_owned),
                scope: scope.map(str::to_owned),
            });
            assert_eq!(Challenge::parse(header), bearer, "{header}");
        }
        check(
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#,
            Some(("https://auth.example/token", Some("registry.example"), Some("repository:a/b:pull,push"))),
        );
        check(r#"bearer Realm=x , scope = "a\"b""#, Some(("x", None, Some("a\"b"))));
        check(r#"Negotiate, Bearer realm="r""#, Some(("r", None, None)));
        check(r#"Digest realm="d", nonce="n", Bearer realm="r""#, Some(("r", None, None)));
        for bad in [
            "",
            "Bearer",
            "Bearer realm=",
            r#"Bearer realm="open"#,
            "=",
            "Negotiate abc==",
            r#"Bearer service="s""#,
        ] {
            check(bad, None);
        }
        check(&"x".repeat(HEADER_MAX + 1), None);
        assert_eq!(Challenge::parse(r#"Basic realm="selvedge""#), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("basic"), Some(Challenge::Basic));
    }

    #[test]
    fn refusals_read_back() {
        let text =
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"later","detail":{"x":1}},{"code":"NEW"}]}"#;
        let read = RegistryErrors::parse(text.as_bytes()).unwrap();
        assert_eq!(read.errors[0].code, Code::TooManyRequests);
        assert_eq!(read.errors[1].code, Code::Unknown);
        assert_eq!(read.to_string(), "later; Unknown");
        let ours = serde_json::to_string(&RegistryErrors::one(Code::ManifestBlobUnknown, "x")).unwrap();
        assert_eq!(ours, r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"x"}]}"#);
        assert_eq!(RegistryErrors::parse(b"<html>"), None);
        assert_eq!(RegistryErrors::parse(&[b' '; 70_000]), None);
    }

    #[test]
    fn ranges_of_pushes() {
        assert_eq!(upload_range("0-1023"), Some(0..1024));
        assert_eq!(upload_range("bytes=5-5"), Some(5..6));
        for bad in ["", "-", "5-4", "a-b", "0-18446744073709551615", "0-1,3-4", "bytes 0-1/2"] {
            assert_eq!(upload_range(bad), None, "{bad:?}");
        }
    }

    /// Plays answers against a push of ten bytes in pieces of four, and gives what was asked for.
    fn play(answers: &[(u16, Option<&str>, Option<&str>)]) -> (Vec<String>, Option<UploadError>) {
        let mut upload = Upload::new(&RepoName::new("a").unwrap(), Digest::of(b"x"), 10, 4);
        let mut asked = Vec::new();
        for (status, location, range) in answers {
            asked.push(match upload.step() {
                UploadStep::Look { .. } => "look".into(),
                UploadStep::Begin { path } => format!("begin {path}"),
                UploadStep::Send { location, range } => format!("send {range:?} to {location}"),
                UploadStep::Ask { location } => format!("ask {location}"),
                UploadStep::Finish { location } => {
                    format!("finish {}", location.replace(&Digest::of(b"x").to_string(), "D"))
                }
                UploadStep::Done => "done".into(),
            });
            let told = Told { status: *status, location: *location, range: *range };
            if let Err(error) = upload.take(told) {
                return (asked, Some(error));
            }
        }
        assert_eq!(upload.step(), &UploadStep::Done);
        (asked, None)
    }

    #[test]
    fn a_push_goes_its_way() {
        let (asked, error) = play(&[
            (404, None, None),
            (202, Some("/u1"), Some("0-0")),
            (202, Some("/u2?s=1"), Some("0-3")),
            (202, None, None),
            (202, Some("/u3?s=2"), Some("0-9")),
            (201, None, None),
        ]);
        let expected = [
            "look",
            "begin /v2/a/blobs/uploads/",
            "send 0..4 to /u1",
            "send 4..8 to /u2?s=1",
            "send 8..10 to /u2?s=1",
            "finish /u3?s=2&digest=D",
        ];
        assert_eq!(asked, expected);
        assert_eq!(error, None);
        assert_eq!(play(&[(200, None, None)]).0, ["look"]);
    }

    #[test]
    fn a_push_goes_on_where_it_stopped() {
        let (asked, error) = play(&[
            (404, None, None),
            (202, Some("/u"), None),
            (202, None, Some("0-1")), // took less than was sent
            (416, None, None),
            (204, None, Some("0-7")),
            (404, None, None), // the session is gone
            (202, Some("/v"), None),
            (202, None, None),
            (202, None, None),
            (202, None, None),
            (201, None, None),
        ]);
        let expected = [
            "look",
            "begin /v2/a/blobs/uploads/",
            "send 0..4 to /u",
            "send 2..6 to /u",
            "ask /u",
            "send 8..10 to /u",
            "begin /v2/a/blobs/uploads/",
            "send 0..4 to /v",
            "send 4..8 to /v",
            "send 8..10 to /v",
            "finish /v?digest=D",
        ];
        assert_eq!(asked, expected);
        assert_eq!(error, None);
    }

    #[test]
    fn a_push_ends() {
        let error = |answers: &[(u16, Option<&str>, Option<&str>)]| play(answers).1.unwrap();
        assert!(matches!(error(&[(401, None, None)]), UploadError::Refused { status: 401, .. }));
        assert!(matches!(error(&[(404, None, None), (202, None, None)]), UploadError::NoLocation { .. }));
        let mut stuck = vec![(404, None, None), (202, Some("/u"), None)];
        stuck.extend([(416, None, None), (204, None, None)].repeat(4));
        assert!(matches!(error(&stuck), UploadError::Stuck { sent_bytes: 0, .. }));
        let mut gone = vec![(404, None, None)];
        gone.extend([(202, Some("/u"), None), (404, None, None)].repeat(5));
        assert!(matches!(error(&gone), UploadError::Stuck { .. }));
    }
}
