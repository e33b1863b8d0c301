//! `[relay]` of `node.toml`, a door for nodes that cannot reach the hub themselves; and `via` of `[hub]`, which is how those come
//! here.
//!
//! ```toml
//! [relay]
//! listen = "0.0.0.0:7444"
//! token_file = "relay.token"   # what the nodes behind show; it opens nothing but this door
//! connections = 256            # at a time
//! per_address = 32             # of them from one address
//! rate = "1MiB/s"              # over this node's own line, for all of them together; absent: as it comes
//! idle = "15m"                 # a tunnel in which nothing moves for so long is closed
//! cache = "4GiB"               # of packages; "0": none is kept
//! keep_free = "256MiB"         # of the disk
//!
//! [hub]
//! url = "https://hub.example:8421"
//! via = ["http://relay:7444"]  # in this order
//! relay_token_file = "relay.token"
//! direct = false               # whether it goes straight to the hub where no relay opens
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::config::part::Part;
use crate::config::quantity::{duration_ms, size_bytes};

/// The most relays before a node.
const RELAYS_MAX: usize = 8;

/// The most connections: each takes two of the process's files.
const CONNECTIONS_MAX: usize = 16_384;

const LISTEN: &str = "0.0.0.0:7444";
const IDLE: &str = "15m";
const CACHE: &str = "4GiB";
const KEEP_FREE: &str = "256MiB";

/// A door for the nodes behind this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The file whose first line the nodes behind show.
    pub token_file: PathBuf,
    /// The most connections at a time.
    pub connections: usize,
    /// The most of them from one address.
    pub per_address: usize,
    /// The most bytes a second over this node's own line.
    pub bytes_per_s: Option<u64>,
    /// A tunnel in which nothing moves for so long is closed.
    pub idle: Duration,
    /// The most bytes of packages that are kept.
    pub cache_bytes: u64,
    /// What stays free of the disk.
    pub keep_free_bytes: u64,
}

/// The ways to the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViaConfig {
    /// `http://host:port` of each relay, in their order; never none.
    pub relays: Vec<String>,
    /// The file whose first line they are shown.
    pub token_file: Option<PathBuf>,
    /// Whether it goes straight to the hub where none of them opens.
    pub direct: bool,
}

/// One relay, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Relays {
    One(String),
    Several(Vec<String>),
}

/// Reads `[relay]`; `None` if something in it is wrong, which is noted.
pub(super) fn read(folder: &Path, mut part: Part<'_, '_>) -> Option<RelayConfig> {
    let listen = part.take_text_or("listen", LISTEN, |text| {
        text.parse::<SocketAddr>()
            .map_err(|_| format!("{text:?} is no address and port such as \"0.0.0.0:7444\""))
    });
    let token_file = part.require::<PathBuf>("token_file", "\"relay.token\"");
    let connections = part.take_or("connections", 256_usize, "256");
    let per_address = part.take_or("per_address", 32_usize, "32");
    let bytes_per_s = part.take_text("rate", |text| {
        size_bytes(text.trim().trim_end_matches("/s")).and_then(|rate| match rate {
            0..1024 => Err("below 1 KiB a second no check-in gets through".to_owned()),
            rate => Ok(rate),
        })
    });
    let idle = part.take_text_or("idle", IDLE, |text| match duration_ms(text)? {
        60_000.. => Ok(Duration::from_millis(duration_ms(text)?.unsigned_abs())),
        _ => Err(format!("{text:?} is less than a minute, and a hub holds calls for longer")),
    });
    let cache_bytes = part.take_text_or("cache", CACHE, size_bytes).value;
    let keep_free_bytes = part.take_text_or("keep_free", KEEP_FREE, size_bytes).value;
    let mut is_sound = true;
    for (key, placed) in [("connections", &connections), ("per_address", &per_address)] {
        if !(1..=CONNECTIONS_MAX).contains(&placed.value) {
            let message = format!("`{key}` is from 1 to {CONNECTIONS_MAX}, not {}", placed.value);
            part.problem(placed.span.clone(), message, "leave it out: 256 connections, 32 from one address");
            is_sound = false;
        }
    }
    part.finish();
    let config = RelayConfig {
        listen: listen.value,
        token_file: folder.join(token_file?.value),
        connections: connections.value,
        per_address: per_address.value,
        bytes_per_s: bytes_per_s.map(|placed| placed.value),
        idle: idle.value,
        cache_bytes,
        keep_free_bytes,
    };
    is_sound.then_some(config)
}

/// Reads what of `[hub]` is about relays; what is wrong is noted.
pub(super) fn read_via(folder: &Path, part: &mut Part<'_, '_>, is_sealed: bool) -> Option<ViaConfig> {
    let has_relays = part.has("via");
    let relays = part.take::<Relays>("via");
    let token_file = part.take::<PathBuf>("relay_token_file");
    let direct = part.take::<bool>("direct");
    let Some(relays) = relays else {
        let alone = token_file.map(|placed| placed.span).or(direct.map(|placed| placed.span));
        if let Some(span) = alone.filter(|_| !has_relays) {
            part.problem(span, "there is no relay to go through", "add `via = \"http://relay:7444\"`");
        }
        return None;
    };
    let span = relays.span;
    let relays = match relays.value {
        Relays::One(relay) => vec![relay],
        Relays::Several(relays) => relays,
    };
    let odd = |c: char| c.is_whitespace() || matches!(c, '@' | '?' | '#' | '/');
    let is_address = |relay: &&String| {
        let host = relay.strip_prefix("http://").map(|host| host.trim_end_matches('/'));
        host.is_some_and(|host| !host.is_empty() && !host.contains(odd))
    };
    if let Some(wrong) = relays.iter().find(|relay| !is_address(relay)) {
        let message = format!("{wrong:?} is no relay's address");
        let help =
            "write it as \"http://relay:7444\"; what goes through it is sealed for the hub all the same";
        part.problem(span, message, help);
        return None;
    }
    if relays.is_empty() || relays.len() > RELAYS_MAX {
        let message = format!("`via` names {} relays", relays.len());
        part.problem(span, message, "name one to eight, the nearest first");
        return None;
    }
    if !is_sealed {
        let message = "what goes through a relay must be sealed for the hub";
        part.problem(span, message, "use the hub's door for nodes: an address that begins with https://");
        return None;
    }
    let token_file = token_file.map(|placed| folder.join(placed.value));
    Some(ViaConfig { relays, token_file, direct: direct.is_some_and(|placed| placed.value) })
}
