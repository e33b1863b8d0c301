//! A model made ready to be asked: what `run`, `embed`, `perplexity`, `imatrix` and others share.
//!
//! Opened and reckoned before it is loaded, so that what cannot work is said at once.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::page::{CacheFormat, PageShape};
use kernels::pool::cores::default_threads;
use lm::adapter::Adapter;
use lm::gguf::Gguf;
use lm::guess::{Draft, Speculation};
use lm::model::Model;

use crate::models::{Located, Models};

/// The context where nobody says otherwise: room for a long chat, also on small machines.
const CONTEXT: usize = 8_192;
/// More threads than any machine that this runs on has.
const THREADS_MAX: usize = 1_024;

/// The threads that a model is computed on.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Threads {
    /// Threads to compute on; without it one for each physical core that this process may use.
    #[arg(long, value_name = "COUNT", value_parser = parse_threads)]
    threads: Option<NonZeroUsize>,
}

/// What is guessed ahead. The text is the same with and without.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Ahead {
    /// A small model with the same vocabulary that writes ahead; the model then checks several tokens at once.
    #[arg(long, value_name = "MODEL")]
    pub(crate) draft: Option<String>,

    /// Do not guess that what stood in the text before comes again, nor what the form of the answer leaves no choice about.
    #[arg(long)]
    pub(crate) no_guess: bool,
}

impl Ahead {
    /// For `engine`, whose draft is loaded too.
    pub(crate) fn speculation(&self, engine: &Engine, models: &Models) -> anyhow::Result<Speculation> {
        let draft = self.draft.as_deref().map(|wanted| {
            let located = models.locate(wanted)?;
            let model = Model::load(&open(&located)?, engine.model.network.shared_compute())
                .with_context(|| format!("{} cannot be loaded", located.name))?;
            Draft::new(Arc::new(model), &engine.model, engine.pages.format)
                .with_context(|| format!("{} cannot guess for {}", located.name, engine.name))
        });
        Ok(Speculation { forced: !self.no_guess, lookup: !self.no_guess, draft: draft.transpose()? })
    }
}

/// How a model is loaded.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) models: Models,

    #[command(flatten)]
    pub(crate) threads: Threads,

    /// Tokens of prompt and answer together; without it what the model was trained for, at most 8192.
    #[arg(long, value_name = "TOKENS", value_parser = parse_tokens)]
    context: Option<usize>,

    /// How keys and values are kept: f32, f16, or q8_0 for half the memory of f16.
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    pub(crate) cache_type: CacheType,

    /// Apply a LoRA adapter in GGUF; a scale other than 1 follows a colon.
    #[arg(long, value_name = "FILE[:SCALE]")]
    lora: Option<Lora>,
}

/// Numbers' format in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheType(pub(crate) CacheFormat);

impl CacheType {
    /// All of them, as they are written.
    pub(crate) const ALL: [(&'static str, CacheFormat); 3] =
        [("f32", CacheFormat::F32), ("f16", CacheFormat::F16), ("q8_0", CacheFormat::Q8_0)];

    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        CacheType::ALL.iter().find(|(_, format)| *format == self.0).map_or("f16", |(name, _)| name)
    }
}

impl FromStr for CacheType {
    type Err = String;

    fn from_str(word: &str) -> Result<CacheType, String> {
        let known = CacheType::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
        known.map(|(_, format)| CacheType(*format)).ok_or_else(|| "it is f32, f16 or q8_0".to_owned())
    }
}

/// An adapter as it is named on the command line.
#[derive(Debug, Clone, PartialEq)]
struct Lora {
    path: PathBuf,
    scale: f32,
}

impl FromStr for Lora {
    type Err = String;

    fn from_str(word: &str) -> Result<Lora, String> {
        if let Some((path, scale)) = word.rsplit_once(':')
            && let Ok(scale) = scale.parse::<f32>()
        {
            return match scale.is_finite() {
                true => Ok(Lora { path: path.into(), scale }),
                false => Err("the scale is not a number to multiply with".to_owned()),
            };
        }
        Ok(Lora { path: word.into(), scale: 1.0 })
    }
}

pub(crate) fn parse_threads(word: &str) -> Result<NonZeroUsize, String> {
    let count = word.parse().ok().and_then(NonZeroUsize::new).filter(|count| count.get() <= THREADS_MAX);
    count.ok_or_else(|| format!("it is a number from 1 to {THREADS_MAX}"))
}

pub(crate) fn parse_tokens(word: &str) -> Result<usize, String> {
    let count = word.parse().ok().filter(|count| (2..=1 << 30).contains(count));
    count.ok_or_else(|| "it is a number of tokens, 2 or more".to_owned())
}

impl Threads {
    /// How many.
    pub(crate) fn count(&self) -> NonZeroUsize {
        self.threads.unwrap_or_else(default_threads)
    }

    /// The processor's best instructions, or those that KERNELS_ISA forces, on these threads.
    pub(crate) fn compute(&self) -> anyhow::Result<Arc<Compute>> {
        Ok(Arc::new(Compute::new(Isa::from_environment()?, self.count())))
    }
}

/// A model that was loaded.
pub(crate) struct Engine {
    /// What to call it.
    pub(crate) name: String,
    /// Its file.
    pub(crate) file: Gguf,
    pub(crate) model: Arc<Model>,
    pub(crate) adapter: Option<Arc<Adapter>>,
    /// Tokens of prompt and answer together.
    pub(crate) context: usize,
    /// How its sequences are kept.
    pub(crate) pages: PageShape,
}

/// Opens the file of a model.
pub(crate) fn open(located: &Located) -> anyhow::Result<Gguf> {
    open_path(&located.path)
}

/// Opens a GGUF file.
pub(crate) fn open_path(path: &Path) -> anyhow::Result<Gguf> {
    Gguf::open(path).with_context(|| format!("{} cannot be opened as a model", path.display()))
}

impl Options {
    /// Loads the model that `wanted` means.
    pub(crate) fn load(&self, wanted: &str) -> anyhow::Result<Engine> {
        let located = self.models.locate(wanted)?;
        let file = open(&located)?;
        let Located { name, .. } = located;
        let compute = self.threads.compute()?;
        let model = Model::load(&file, compute).with_context(|| format!("{name} cannot be loaded"))?;
        let trained = model.network.shape().context.max(1);
        // Beyond what it was trained for a model writes nonsense, not more.
        if let Some(context) = self.context.filter(|context| *context > trained) {
            tracing::warn!(
                "{name} was trained for {trained} tokens: its context is {trained}, not {context}"
            );
        }
        let context = self.context.unwrap_or(CONTEXT).min(trained);
        let pages = model.network.page_shape(self.cache_type.0).context("--cache-type")?;
        let adapter = self.lora.as_ref().map(|lora| lora.load(&model)).transpose()?;
        Ok(Engine { name, file, model: Arc::new(model), adapter, context, pages })
    }

    /// The context that was asked for.
    pub(crate) fn context(&self) -> Option<usize> {
        self.context
    }
}

impl Lora {
    fn load(&self, model: &Model) -> anyhow::Result<Arc<Adapter>> {
        let file = open_path(&self.path)?;
        let adapter = model.network.adapter(&file, self.scale);
        let adapter = adapter.with_context(|| format!("{} cannot be applied", self.path.display()))?;
        Ok(Arc::new(adapter))
    }
}

impl Engine {
    /// Refuses an encoder, which writes nothing.
    pub(crate) fn must_write(&self) -> anyhow::Result<()> {
        if !self.model.network.writes() {
            anyhow::bail!(
                "{} is an encoder: it gives embeddings, not text; ask it with `selvedge embed`",
                self.name
            );
        }
        Ok(())
    }

    /// The token that stands at the beginning of a text, if the model wants one.
    pub(crate) fn begin(&self) -> Option<u32> {
        let tokenizer = &self.model.tokenizer;
        tokenizer.bos().filter(|_| tokenizer.adds_bos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line_are_read() {
        assert_eq!("Q8_0".parse(), Ok(CacheType(CacheFormat::Q8_0)));
        assert!("q4_0".parse::<CacheType>().is_err());
        assert_eq!("a/b.gguf:0.5".parse(), Ok(Lora { path: "a/b.gguf".into(), scale: 0.5 }));
        assert_eq!("C:b.gguf".parse(), Ok(Lora { path: "C:b.gguf".into(), scale: 1.0 }));
        assert!("a:inf".parse::<Lora>().is_err());
        assert!(parse_threads("0").is_err() && parse_threads("9999").is_err() && parse_threads("2").is_ok());
        assert!(parse_tokens("1").is_err() && parse_tokens("-5").is_err() && parse_tokens("512").is_ok());
    }
}
