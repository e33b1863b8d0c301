//! `[neighbours]` of `node.toml`: nodes next to this one that may have the same packages, and whether they may ask here.
//!
//! ```toml
//! [neighbours]
//! serve = true                            # blobs of our own packages, at the address of `[api]`; needs `token_file`
//! peers = ["http://gateway-2:8421"]       # asked before the hub; what they give is proven as everything is
//! token_file = "neighbours.token"         # what neighbours show each other; it opens nothing but this door
//! rate = "16MiB"                          # a second, to all of them together
//! ```

use std::path::{Path, PathBuf};

use crate::config::part::Part;
use crate::config::quantity::size_bytes;

/// The most peers: each is asked before the hub is.
const PEERS_MAX: usize = 16;

const RATE: &str = "16MiB";

/// Nodes next to this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighboursConfig {
    /// Whether they may fetch our packages from us.
    pub serve: bool,
    /// Whom we ask first: `http://host:port`.
    pub peers: Vec<String>,
    /// The file whose first line they and we show each other.
    pub token_file: Option<PathBuf>,
    /// The most bytes a second that go out to all of them.
    pub bytes_per_s: u64,
}

/// Reads the table; `None` if something in it is wrong, which is noted.
pub(super) fn read(folder: &Path, mut part: Part<'_, '_>) -> Option<NeighboursConfig> {
    let serve = part.take_or("serve", false, "false");
    let peers = part.take_or::<Vec<String>>("peers", Vec::new(), "[]");
    let token_file = part.take::<PathBuf>("token_file").map(|placed| folder.join(placed.value));
    let rate = part.take_text_or("rate", RATE, size_bytes);
    let mut is_sound = true;
    let mut refuse = |part: &mut Part<'_, '_>, span, message: String, help: &str| {
        part.problem(span, message, help);
        is_sound = false;
    };
    for peer in &peers.value {
        let host = peer.strip_prefix("http://").or_else(|| peer.strip_prefix("https://"));
        let odd = |c: char| c.is_whitespace() || matches!(c, '@' | '?' | '#');
        if host.is_none_or(|host| host.trim_end_matches('/').is_empty() || host.contains(odd)) {
            let message = format!("{peer:?} is no neighbour's address");
            refuse(&mut part, peers.span.clone(), message, "write it as \"http://gateway-2:8421\"");
        }
    }
    if peers.value.len() > PEERS_MAX {
        let message = format!("{} peers: each would be asked before the hub", peers.value.len());
        refuse(&mut part, peers.span.clone(), message, "name the nearest, at most 16");
    }
    if serve.value && token_file.is_none() {
        let message = "packages would go to whoever asks".to_owned();
        refuse(&mut part, serve.span, message, "set `token_file`, the same for all neighbours");
    }
    if rate.value < 1 << 10 {
        let message = "`rate` is below 1 KiB a second: nobody would wait for it".to_owned();
        refuse(&mut part, rate.span, message, "write \"16MiB\", or `serve = false`");
    }
    part.finish();
    let peers = peers.value.iter().map(|peer| peer.trim_end_matches('/').to_owned()).collect();
    let config = NeighboursConfig { serve: serve.value, peers, token_file, bytes_per_s: rate.value };
    is_sound.then_some(config)
}
