//! The style, the scripts and the mark: a few small files, part of the program, cached by the browser until they
//! change.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use wire::hash::Hash;

const FILES: [(&str, &str, &str); 6] = [
    ("app.css", "text/css; charset=utf-8", include_str!("../../assets/app.css")),
    ("theme.js", "text/javascript; charset=utf-8", include_str!("../../assets/theme.js")),
    ("app.js", "text/javascript; charset=utf-8", include_str!("../../assets/app.js")),
    ("act.js", "text/javascript; charset=utf-8", include_str!("../../assets/act.js")),
    ("charts.js", "text/javascript; charset=utf-8", include_str!("../../assets/charts.js")),
    ("mark.svg", "image/svg+xml", include_str!("../../assets/mark.svg")),
];

/// A word that changes when any file does.
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let all: String = FILES.iter().map(|(_, _, content)| *content).collect();
        let mut version = Hash::of(all.as_bytes()).to_string();
        version.truncate(10);
        version
    });
    &VERSION
}

/// One of the files.
pub async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, _, _)| *known == name) {
        Some((_, content_type, content)) => {
            let headers = [
                (header::CONTENT_TYPE, *content_type),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ];
            (headers, *content).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_together_are_small() {
        let bytes: usize = FILES.iter().map(|(_, _, content)| content.len()).sum();
        assert!(bytes < 80_000, "{bytes} bytes");
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        for (name, _, content) in FILES {
            for address in ["http://", "https://", "//cdn", "@import"] {
                let found = content.replace("http://www.w3.org/2000/svg", "").contains(address);
                assert!(!found, "{name} has {address}");
            }
        }
    }
}
