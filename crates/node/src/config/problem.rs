//! What is wrong with a config file, where, and what to do about it.
//!
//! A file is read to its end, so all of its problems are found at once. The type carries the file's text and a byte
//! span, so that the binary can underline the place; `Display` alone already says `flow.toml:12:7: …`.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One problem of a config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The file's text; empty if it could not be read.
    pub text: Arc<str>,
    /// Where in the text, in bytes; empty and at 0 if the problem has no place.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do, if that is known.
    pub help: Option<String>,
}

impl ConfigError {
    /// Line and column of the span's begin, both from 1; columns are counted in characters.
    pub fn position(&self) -> (usize, usize) {
        let start = self.span.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file.display())?;
        if !self.text.is_empty() {
            let (line, column) = self.position();
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// All problems found, at least one, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl std::fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl ConfigErrors {
    /// With what to do where a file could not be read.
    pub fn if_unread(mut self, help: &str) -> ConfigErrors {
        for error in self.0.iter_mut().filter(|error| error.text.is_empty() && error.help.is_none()) {
            error.help = Some(help.to_owned());
        }
        self
    }
}

/// Collects the problems of one file while it is read.
#[derive(Debug)]
pub struct Problems {
    file: PathBuf,
    text: Arc<str>,
    found: Vec<ConfigError>,
}

impl Problems {
    /// None yet.
    pub fn new(file: &Path, text: Arc<str>) -> Problems {
        Problems { file: file.to_path_buf(), text, found: Vec::new() }
    }

    /// Notes a problem.
    pub fn add(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.push(span, message.into(), None);
    }

    /// Notes a problem with its mend.
    pub fn add_with_help(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.push(span, message.into(), Some(help.into()));
    }

    fn push(&mut self, span: Range<usize>, message: String, help: Option<String>) {
        let (file, text) = (self.file.clone(), Arc::clone(&self.text));
        self.found.push(ConfigError { file, text, span, message, help });
    }

    /// The text at a span.
    pub fn text_at(&self, span: &Range<usize>) -> &str {
        self.text.get(span.clone()).unwrap_or("")
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// What was found so far.
    pub fn found(self) -> Vec<ConfigError> {
        self.found
    }

    /// The value, if nothing was wrong.
    pub fn or<T>(mut self, value: Option<T>) -> Result<T, ConfigErrors> {
        self.found.sort_by_key(|error| error.span.start);
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ if self.found.is_empty() => unreachable!("a value is only withheld after a problem was noted"),
            _ => Err(ConfigErrors(self.found)),
        }
    }
}

/// Reads a config file of at most 1 MiB.
pub fn read_text(file: &Path) -> Result<Arc<str>, ConfigErrors> {
    const MAX_BYTES: u64 = 1 << 20;
    let fail = |message: String| {
        let (text, span) = (Arc::from(""), 0..0);
        ConfigErrors(vec![ConfigError { file: file.to_path_buf(), text, span, message, help: None }])
    };
    let mut bytes = Vec::new();
    // Its length is not asked for: of a device it is 0, and its bytes have no end.
    File::open(file)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| fail(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(fail(format!("is longer than the {MAX_BYTES} bytes a config file may have")));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(error) => {
            Err(fail(format!("is not UTF-8 text: bad byte at {}", error.utf8_error().valid_up_to())))
        }
    }
}

/// The mend for a word nobody knows: the nearest of `known`, or all of them.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let letters = word.chars().count();
    let nearest = known.iter().map(|name| (distance(word, name), *name)).min();
    match nearest {
        Some((steps, name)) if steps <= (1 + letters / 4).min(letters.saturating_sub(1)) => {
            format!("did you mean `{name}`?")
        }
        _ if known.is_empty() => "there is none".to_owned(),
        _ => {
            let shown: Vec<String> = known.iter().take(12).map(|name| format!("`{name}`")).collect();
            let more = if known.len() > 12 { ", …" } else { "" };
            format!("known: {}{more}", shown.join(", "))
        }
    }
}

/// Insertions, deletions, replacements and swaps of neighbours between two words, case aside. Long words are cut: this
/// is for names.
fn distance(a: &str, b: &str) -> usize {
    let cut = |word: &str| word.chars().take(64).map(|c| c.to_ascii_lowercase()).collect::<String>();
    strsim::osa_distance(&cut(a), &cut(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        fn check(word: &str, known: &[&str], expected: &str) {
            assert_eq!(did_you_mean(word, known.iter().copied()), expected);
        }
        check("temprature", &["pressure", "temperature"], "did you mean `temperature`?");
        check("tpye", &["type", "file"], "did you mean `type`?");
        check("Lag", &["lag"], "did you mean `lag`?");
        check("zzz", &["a", "b"], "known: `a`, `b`");
        check("x", &[], "there is none");
    }

    #[test]
    fn the_place_counts_characters() {
        let text: Arc<str> = "a = 1\nü = falsch".into();
        let mut problems = Problems::new(Path::new("flow.toml"), Arc::clone(&text));
        problems.add_with_help(text.find("falsch").unwrap()..text.len(), "wrong", "mend it");
        problems.add(0..1, "first");
        let errors = problems.or(Some(())).unwrap_err();
        assert_eq!(errors.to_string(), "flow.toml:1:1: first\nflow.toml:2:5: wrong (mend it)");
    }
}
