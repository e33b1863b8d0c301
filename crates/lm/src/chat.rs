//! Messages and tools to a prompt and back, by the model's own template.
mod bounds;
mod jinja;
pub mod message;
mod python;
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
