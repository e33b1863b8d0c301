//! Pictures of pages, for people to look at.

use std::path::Path;

use base64::Engine as _;

use crate::browser::Browser;

/// Keeps a picture where the caller wants them.
pub(crate) fn keep(browser: &mut Browser, name: &str) {
    let picture = browser.screenshot();
    assert!(picture.len() > 10_000, "{name} is a picture");
    if let Some(folder) = std::env::var_os("SELVEDGE_SCREENSHOTS") {
        let bytes = base64::engine::general_purpose::STANDARD.decode(picture).expect("Base64");
        std::fs::write(Path::new(&folder).join(name), bytes).expect("the folder can be written");
    }
}
