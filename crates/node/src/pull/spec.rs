//! What a person asks to pull, read from one word: `owner/name:q4_k_m`, or an address. Pure.

use reqwest::Url;

/// The longest word that is read.
const SPEC_MAX_BYTES: usize = 4096;

/// The longest part of a repository's name; Hugging Face has 96.
const PART_MAX_BYTES: usize = 96;

/// The longest path of a file in a repository, and of a revision.
const PATH_MAX_BYTES: usize = 512;

/// Hosts whose pages are repositories, whatever endpoint we ask.
const HUGGING_FACE: [&str; 3] = ["huggingface.co", "www.huggingface.co", "hf.co"];

/// What to pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// A file at an address.
    Address(Url),
    /// A file of a repository.
    Repository {
        /// `owner/name`.
        repository: String,
        /// A branch, a tag or a commit; `None`: the main branch.
        revision: Option<String>,
        /// Which of its files.
        wanted: Wanted,
    },
}

/// Which file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The one that most people want.
    Usual,
    /// The one with this quantisation, in lower case.
    Quantisation(String),
    /// This one.
    File(String),
}

/// A word that says nothing to pull.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{spec:?} is nothing to pull ({why}); write owner/name, owner/name:q4_k_m, owner/name/file.gguf or https://…"
)]
pub struct SpecError {
    /// What was given, shortened.
    pub spec: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Spec {
    /// Reads a word. Pages of `endpoint` and of Hugging Face are understood as the repositories that they show.
    pub fn parse(spec: &str, endpoint: &Url) -> Result<Spec, SpecError> {
        let spec = spec.trim();
        let wrong = |why| SpecError { spec: spec.chars().take(200).collect(), why };
        if spec.len() > SPEC_MAX_BYTES {
            return Err(wrong("it is too long"));
        }
        let lower = spec.to_ascii_lowercase();
        if lower.starts_with("http://") || lower.starts_with("https://") {
            let url = Url::parse(spec).map_err(|_| wrong("the address cannot be read"))?;
            if !url.has_host() {
                return Err(wrong("the address has no host"));
            }
            return Ok(of_page(&url, endpoint).unwrap_or(Spec::Address(url)));
        }
        let prefixes = ["hf://", "hf:", "hf.co/", "huggingface.co/"];
        let word =
            prefixes.into_iter().find_map(|prefix| lower.starts_with(prefix).then(|| &spec[prefix.len()..]));
        let word = word.unwrap_or(spec);
        if word.contains("://") {
            return Err(wrong("only http and https are spoken; a file of this machine is imported"));
        }
        if word.starts_with(['/', '.', '~']) {
            return Err(wrong("it is a path; a file of this machine is imported"));
        }
        let (place, behind) = match word.split_once(':') {
            Some((place, behind)) => (place, Some(behind)),
            None => (word, None),
        };
        let mut parts = place.splitn(3, '/');
        let (owner, name, path) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let name = name.ok_or_else(|| wrong("a repository is owner/name"))?;
        let (name, revision) = match name.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (name, None),
        };
        let wanted = match (path, behind) {
            (Some(_), Some(_)) => return Err(wrong("it names both a file and a quantisation")),
            (Some(file), None) => Wanted::File(file.to_owned()),
            (None, Some(file)) if file.to_ascii_lowercase().ends_with(".gguf") => {
                Wanted::File(file.to_owned())
            }
            (None, Some(label)) => Wanted::Quantisation(label.to_ascii_lowercase()),
            (None, None) => Wanted::Usual,
        };
        repository(owner, name, revision, wanted).map_err(wrong)
    }
}

/// Checks the parts of a repository.
fn repository(owner: &str, name: &str, revision: Option<&str>, wanted: Wanted) -> Result<Spec, &'static str> {
    for part in [owner, name] {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if part.is_empty() || part.len() > PART_MAX_BYTES || part.starts_with('.') || !part.chars().all(plain)
        {
            return Err("a repository is owner/name, of letters, digits, '-', '_' and '.'");
        }
    }
    if revision.is_some_and(|revision| !is_path(revision)) {
        return Err("its revision cannot be one");
    }
    let fits = match &wanted {
        Wanted::Usual => true,
        Wanted::Quantisation(label) => {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !label.is_empty() && label.len() <= PART_MAX_BYTES && label.chars().all(plain)
        }
        Wanted::File(file) => is_path(file),
    };
    if !fits {
        return Err("what stands behind the repository is neither a quantisation nor a file");
    }
    let revision = revision.filter(|revision| *revision != "main").map(str::to_owned);
    Ok(Spec::Repository { repository: format!("{owner}/{name}"), revision, wanted })
}

/// Whether it can be a path in a repository: no way out of it, nothing that a terminal would obey.
pub(crate) fn is_path(path: &str) -> bool {
    path.len() <= PATH_MAX_BYTES
        && !path.chars().any(|c| c.is_control() || c == '\\')
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// The repository behind a page that people copy from their browser: `/owner/name`, `/owner/name/tree/main`,
/// `/owner/name/blob/main/file.gguf`, and `resolve` in the place of `blob`.
fn of_page(url: &Url, endpoint: &Url) -> Option<Spec> {
    let host = url.host_str()?;
    let known = HUGGING_FACE.contains(&host) || url.origin() == endpoint.origin();
    let path = url.path().strip_prefix(endpoint.path().trim_end_matches('/')).unwrap_or(url.path());
    if !known || !url.username().is_empty() {
        return None;
    }
    let parts: Vec<String> =
        path.split('/').filter(|part| !part.is_empty()).map(unescape).collect::<Option<_>>()?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts[..] {
        // A file right there is a file.
        [_, name] if name.to_ascii_lowercase().ends_with(".gguf") => None,
        [owner, name] => repository(owner, name, None, Wanted::Usual).ok(),
        [owner, name, "tree", revision] => repository(owner, name, Some(revision), Wanted::Usual).ok(),
        [owner, name, "blob" | "resolve" | "raw", revision, ref file @ ..] if !file.is_empty() => {
            repository(owner, name, Some(revision), Wanted::File(file.join("/"))).ok()
        }
        _ => None,
    }
}

/// Undoes `%20` and the like.
fn unescape(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push(match byte {
            b'%' => u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoint() -> Url {
        Url::parse("http://mirror.lan:8080/hf/").unwrap()
    }

    #[test]
    fn what_people_write() {
        fn check(spec: &str, repository: &str, revision: Option<&str>, wanted: Wanted) {
            let expected = Spec::Repository {
                repository: repository.into(),
                revision: revision.map(str::to_owned),
                wanted,
            };
            assert_eq!(Spec::parse(spec, &endpoint()), Ok(expected), "{spec}");
        }
        let quant = |label: &str| Wanted::Quantisation(label.into());
        let file = |file: &str| Wanted::File(file.into());
        check("me/tiny", "me/tiny", None, Wanted::Usual);
        check(" me/Tiny-GGUF:Q4_K_M ", "me/Tiny-GGUF", None, quant("q4_k_m"));
        check("me/tiny:a.GGUF", "me/tiny", None, file("a.GGUF"));
        check("me/tiny/sub/a.gguf", "me/tiny", None, file("sub/a.gguf"));
        check("me/tiny@v2:q8_0", "me/tiny", Some("v2"), quant("q8_0"));
        check("me/tiny@main", "me/tiny", None, Wanted::Usual);
        check("hf.co/me/tiny:q8_0", "me/tiny", None, quant("q8_0"));
        check("hf:me/tiny", "me/tiny", None, Wanted::Usual);
        check("https://huggingface.co/me/tiny", "me/tiny", None, Wanted::Usual);
        check("https://hf.co/me/tiny/tree/v2", "me/tiny", Some("v2"), Wanted::Usual);
        check("https://huggingface.co/me/tiny/blob/main/a.gguf", "me/tiny", None, file("a.gguf"));
        check(
            "http://mirror.lan:8080/hf/me/tiny/resolve/v2/s/a%20b.gguf?download=true",
            "me/tiny",
            Some("v2"),
            file("s/a b.gguf"),
        );
    }

    #[test]
    fn addresses_stay_addresses() {
        for spec in [
            "https://example.org/me/tiny",
            "HTTP://host/a.gguf",
            "http://mirror.lan/hf/me/tiny",
            "https://huggingface.co/docs",
            "https://huggingface.co/files/a.gguf",
        ] {
            assert!(matches!(Spec::parse(spec, &endpoint()), Ok(Spec::Address(_))), "{spec}");
        }
    }

    #[test]
    fn what_is_nothing_to_pull() {
        fn check(spec: &str, expected: &str) {
            let error = Spec::parse(spec, &endpoint()).unwrap_err();
            assert!(error.to_string().contains(expected), "{spec}: {error}");
        }
        check("", "owner/name");
        check("tiny", "a repository is owner/name");
        check("./tiny.gguf", "is imported");
        check("file:///tiny.gguf", "only http");
        check("me/..", "letters");
        check("me/tiny/../../x", "neither");
        check("me/tiny:", "neither");
        check("me/tiny/a.gguf:q4_0", "both");
        check("me/tiny:q4\u{1b}", "neither");
        check("me/t\u{1b}iny", "letters");
        check("http://", "address");
        check(&"a".repeat(5000), "too long");
    }

    proptest! {
        #[test]
        fn no_word_panics_or_leaves_its_repository(spec in "(hf.co/|https://hf.co/)?[a-z./:@%0-9]{0,40}|.{0,40}") {
            if let Ok(Spec::Repository { repository, wanted: Wanted::File(file), .. }) = Spec::parse(&spec, &endpoint()) {
                prop_assert!(is_path(&repository) && is_path(&file));
            }
        }
    }
}
