//! Messages and tools to a prompt and back, by the model's own template.
//!
//! Text in, text out: no engine, no clock, no chance. On the way in, [`template`] shapes [`message`]s to what the
//! model's template can take and renders it; on the way back, [`answer`] reads what the model writes, piece by piece,
//! as content, thoughts and tool calls, in the [`dialect`] of the model's family. [`tools`] makes the grammar for a
//! model that must call a tool. A template comes from a file that a stranger made: `jinja.rs` runs it, `bounds.rs`
//! bounds what it may cost, `python.rs` makes values look as templates expect.

pub mod answer;
mod bounds;
pub mod dialect;
mod jinja;
mod literal;
mod members;
pub mod message;
mod python;
pub mod template;
pub mod tools;

pub use crate::chat::jinja::TemplateError;

#[cfg(test)]
fn shared_data(folder: &str) -> Option<std::path::PathBuf> {
    let root = std::env::var_os("SELVEDGE_SHARED_DATA").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        std::path::PathBuf::from,
    );
    let folder = root.join(folder);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: {}: no shared data", folder.display());
    None
}
