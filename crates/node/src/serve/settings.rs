//! What a server is told when it begins.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use kernels::page::CacheFormat;

/// What a server is told when it begins.
#[derive(Clone)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The key that requests must show; without one it listens on this machine only, unless `insecure`.
    pub key: Option<String>,
    /// Listen to other machines without a key.
    pub insecure: bool,
    /// Names, beside the address itself and `localhost`, under which clients may ask.
    pub hosts: Vec<String>,
    /// Origins of web pages that may ask; `*` is every page.
    pub origins: Vec<String>,
    /// How models are run.
    pub engine: EngineSettings,
    /// A model that nobody asked for so long is unloaded; `None`: never.
    pub keep_alive: Option<Duration>,
    /// Bytes that all loaded models may need together; `None`: no bound.
    pub memory_bytes: Option<u64>,
    /// Answers under way when the server stops have so long to end.
    pub grace: Duration,
}

impl fmt::Debug for Settings {
    /// The key does not show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { listen, key, insecure, engine, .. } = self;
        let mut shown = f.debug_struct("Settings");
        shown.field("listen", listen).field("has_key", &key.is_some()).field("insecure", insecure);
        shown.field("engine", engine).finish_non_exhaustive()
    }
}

/// How models are run.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Tokens of prompt and answer together; `None`: what the model was trained for, at most [`CONTEXT`].
    pub context: Option<usize>,
    /// Answers written at once.
    pub parallel: usize,
    /// Answers that wait for their turn.
    pub queue: usize,
    /// How keys and values are kept.
    pub cache: CacheFormat,
    /// Bytes of keys and values of answers under way; `None`: what `parallel` full contexts need, at most
    /// [`CACHE_BYTES`] or one full context, whichever is more.
    pub cache_bytes: Option<usize>,
    /// Threads; `None`: as many as this process may use cores.
    pub threads: Option<NonZeroUsize>,
    /// Guess ahead what stood in a sequence before, and what a grammar leaves no choice about.
    pub guess: bool,
    /// The file of a small model that guesses ahead, too; its vocabulary is that of the models it guesses for.
    pub draft: Option<PathBuf>,
    /// The folder where keys and values of what was read last outlive the server; `None`: they end with it.
    pub prefixes: Option<PathBuf>,
}

/// The context where nobody says otherwise: room for long chats, and on small machines for more than one.
pub const CONTEXT: usize = 8_192;
/// Bytes of keys and values where nobody says otherwise.
pub const CACHE_BYTES: usize = 1 << 30;
/// Tokens of one step. More make a prompt quicker and let those who write wait longer.
pub(super) const STEP_TOKENS: usize = 512;

impl Default for EngineSettings {
    fn default() -> EngineSettings {
        EngineSettings {
            context: None,
            parallel: 8,
            queue: 64,
            cache: CacheFormat::F16,
            cache_bytes: None,
            threads: None,
            guess: true,
            draft: None,
            prefixes: None,
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], PORT)),
            key: None,
            insecure: false,
            hosts: Vec::new(),
            origins: Vec::new(),
            engine: EngineSettings::default(),
            keep_alive: Some(Duration::from_secs(600)),
            memory_bytes: None,
            grace: Duration::from_secs(10),
        }
    }
}

/// Beside the hub's 8420 and the node's 8421.
pub const PORT: u16 = 8422;
