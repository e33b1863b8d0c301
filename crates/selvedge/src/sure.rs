//! Asking before something cannot be taken back.

use std::io::{self, IsTerminal as _, Write as _};

use crate::complaint::Usage;

/// Asks a person; where there is none, it takes a word on the command line.
pub(crate) fn is_sure(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(Usage(format!("{question} Say so with --yes")).into());
    }
    let mut err = io::stderr().lock();
    write!(err, "{question} Type yes: ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
