//! What a rule says when it is broken: one line that an editor can jump to.

use std::fmt;

/// Prints as `file:line: what is wrong: how to mend`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Relative to the workspace's root, with `/`.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, with the names involved.
    pub wrong: String,
    /// What to do about it.
    pub mend: String,
}

impl Violation {
    /// A violation at a line of a file.
    pub fn at(file: &str, line: usize, wrong: impl Into<String>, mend: impl Into<String>) -> Violation {
        Violation { file: file.to_owned(), line, wrong: wrong.into(), mend: mend.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { file, line, wrong, mend } = self;
        write!(f, "{file}:{line}: {wrong}: {mend}")
    }
}
