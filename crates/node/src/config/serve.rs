//! `[serve]` of `node.toml`: the language models that a node serves beside its flow, as `selvedge serve` does alone.
//!
//! ```toml
//! [serve]
//! listen = "127.0.0.1:8422"
//! models = ["small.gguf"]     # files, relative to this one; or `shelf`, a folder that `selvedge pull` fills
//! ```
//!
//! A build without language models has `no_serve.rs` in the place of this file.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kernels::page::CacheFormat;

use crate::config::part::{Part, Placed};
use crate::config::quantity::{duration_ms, size_bytes};
use crate::serve::offer::{Offer, Offers};
use crate::serve::settings::{EngineSettings, Settings};
use crate::shelf::{Shelf, State};

/// Whether this build can serve language models.
pub(super) const IS_BUILT: bool = true;

/// The language models that a node serves.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// How; the key is not read yet.
    pub settings: Settings,
    /// What.
    pub offers: Offers,
    /// The file whose first line is the key to ask for.
    pub token_file: Option<PathBuf>,
}

/// Reads the table; `None` if something in it is wrong, which is noted. With packages it needs to name no models.
pub(super) fn read(folder: &Path, has_packages: bool, mut part: Part<'_, '_>) -> Option<ServeConfig> {
    let default = Settings::default();
    let listen = part.take_text_or("listen", &default.listen.to_string(), |text| {
        text.parse::<SocketAddr>()
            .map_err(|_| format!("{text:?} is no address and port such as \"127.0.0.1:8422\""))
    });
    let remote = part.take_or("allow_remote", false, "false").value;
    let token_file = part.take::<PathBuf>("token_file").map(|placed| folder.join(placed.value));
    let hosts = part.take_or("hosts", Vec::new(), "[]").value;
    let origins = part.take_or("origins", Vec::new(), "[]").value;
    let Placed { value: listen, span } = listen;
    let guarded = remote && token_file.is_some();
    if !guarded && !listen.ip().is_loopback() {
        let message = format!("{listen} can be reached from other machines");
        part.problem(span, message, "listen on 127.0.0.1, or set `allow_remote = true` and a `token_file`");
    }
    let models = part.take::<Vec<PathBuf>>("models");
    let shelf = part.take::<PathBuf>("shelf");
    let offers = match (models, shelf) {
        (Some(models), None) => {
            let offers = models.value.iter().map(|file| Offer::of_file(&folder.join(file)));
            Some(Offers::Listed(offers.collect()))
        }
        (None, Some(shelf)) => Some(Offers::Shelf(Shelf::new(folder.join(shelf.value)))),
        (Some(models), Some(_)) => {
            part.problem(models.span, "both `models` and a `shelf` are given", "leave one of them out");
            None
        }
        (None, None) if has_packages => Some(Offers::Listed(Vec::new())),
        (None, None) => {
            let span = part.span.clone();
            part.problem(span, "`serve` has no `models` and no `shelf`", "add `models = [\"small.gguf\"]`");
            None
        }
    };
    let context = part.take::<NonZeroUsize>("context").map(|placed| placed.value.get());
    let positive = |number: usize| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
    let EngineSettings { parallel, queue, .. } = default.engine;
    let parallel = part.take_or("parallel", positive(parallel), &parallel.to_string()).value.get();
    let queue = part.take_or("queue", queue, &queue.to_string()).value;
    let cache = part.take_text_or("cache_type", "f16", |text| match text {
        "f16" => Ok(CacheFormat::F16),
        "q8_0" => Ok(CacheFormat::Q8_0),
        "f32" => Ok(CacheFormat::F32),
        _ => Err(format!("{text:?} is none of \"f16\", \"q8_0\" and \"f32\"")),
    });
    let size = |text: &str| usize::try_from(size_bytes(text)?).map_err(|_| format!("{text:?} is too much"));
    let cache_bytes = part.take_text("cache_bytes", size).map(|placed| placed.value);
    let memory_bytes = part.take_text("memory_bytes", size_bytes).map(|placed| placed.value);
    let guess = part.take_or("guess", default.engine.guess, "true").value;
    let draft = part.take_text("draft", |text| draft_file(folder, offers.as_ref(), text));
    let prefixes = part.take_text("prefixes", |text| match folder.join(text) {
        // The folder itself is made when there is something to keep.
        prefixes if prefixes.exists() && !prefixes.is_dir() => {
            Err(format!("{} is a file; name a folder", prefixes.display()))
        }
        prefixes => Ok(prefixes),
    });
    let threads = part.take::<NonZeroUsize>("threads").map(|placed| placed.value);
    let keep_alive = part.take_text_or("keep_alive", "10m", |text| match text {
        "never" => Ok(None),
        text => Ok(Some(Duration::from_millis(duration_ms(text)?.unsigned_abs()))),
    });
    part.finish();
    let engine = EngineSettings {
        context,
        parallel,
        queue,
        cache: cache.value,
        cache_bytes,
        threads,
        guess,
        draft: draft.map(|placed| placed.value),
        prefixes: prefixes.map(|placed| placed.value),
    };
    let settings =
        Settings { listen, hosts, origins, engine, keep_alive: keep_alive.value, memory_bytes, ..default };
    Some(ServeConfig { settings, offers: offers?, token_file })
}

/// The model that guesses ahead: a file beside `node.toml`, or with a shelf a model on it.
fn draft_file(folder: &Path, offers: Option<&Offers>, text: &str) -> Result<PathBuf, String> {
    let file = folder.join(text);
    if file.is_file() {
        return Ok(file);
    }
    let Some(Offers::Shelf(shelf)) = offers else {
        return Err(format!("there is no file {}", file.display()));
    };
    match shelf.find(text) {
        Ok(entry) if entry.state == State::Ready => Ok(entry.path),
        Ok(entry) => Err(format!("the file of the model {} is gone or has changed", entry.facts.name)),
        Err(error) => Err(format!("there is no file {}, and on the shelf: {error}", file.display())),
    }
}
