//! A model from its file, or its slot, to one that can be asked: looked at, reckoned, loaded, with its template and its words.

use std::sync::{Arc, OnceLock};

use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::page::{CacheFormat, PAGE};
use kernels::pool::cores::default_threads;
use lm::batch::{Batch, Limits};
use lm::chat::template::Template;
use lm::constraint::vocabulary::Vocabulary;
use lm::family;
use lm::gguf::Gguf;
use lm::guess::{Draft, Speculation};
use lm::memory::Needed;
use lm::model::Model;
use lm::speech;
use serde_json::{Value, json};
use wire::world::MonoNs;

use super::gauges::Gauges;
use super::offer::{Offer, Weights};
use super::problem::Problem;
use super::settings::{CACHE_BYTES, CONTEXT, EngineSettings, STEP_TOKENS};
use crate::install::keys::Keys;
use crate::install::weights::{self, WeightsError, gguf};
use crate::why::why;

/// A model that can be asked, as requests see it.
pub(super) struct Loaded {
    pub(super) offer: Offer,
    pub(super) model: Arc<Model>,
    /// Its chat template, or why it has none that can be used.
    pub(super) template: Result<Template, String>,
    vocabulary: OnceLock<Result<Arc<Vocabulary>, String>>,
    pub(super) gauges: Arc<Gauges>,
    /// Tokens of prompt and answer together.
    pub(super) context: usize,
    /// Sequences that one request may ask for: what could ever be taken at once.
    pub(super) places: usize,
    /// Bytes it needs, weights and cache and room to compute in.
    pub(super) needed_bytes: u64,
    pub(super) loaded_ns: MonoNs,
}

impl Loaded {
    /// What answers tell of the model that gave them; of a slot's, also which variant of which release it is.
    pub(super) fn named(&self) -> Value {
        let facts = &self.model.facts;
        let mut named = json!({ "digest": self.offer.digest, "family": facts.family, "quantisation": facts.quantisation });
        self.offer.name_slot(&mut named);
        named
    }

    /// The vocabulary as constraints want it; made when the first asks for it.
    pub(super) fn vocabulary(&self) -> Result<Arc<Vocabulary>, String> {
        let make =
            || speech::vocabulary(&self.model.tokenizer).map(Arc::new).map_err(|error| error.to_string());
        self.vocabulary.get_or_init(make).clone()
    }
}

/// What a model will be run with.
struct Plan {
    limits: Limits,
    needed_bytes: u64,
}

/// The code of a model whose bytes the disk has damaged or lost.
pub(super) const SPOILT: &str = "model_damaged";

/// Loads a model. `make_room` is told what it will need when its bytes are known to be right, and may refuse.
pub(super) fn load(
    offer: Offer,
    settings: &EngineSettings,
    gauges: Arc<Gauges>,
    now_ns: impl Fn() -> MonoNs,
    make_room: impl FnOnce(u64) -> Result<(), Problem>,
) -> Result<(Loaded, Batch), Problem> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        let message = format!("the model {:?} cannot be loaded: {}", offer.name, why(error));
        Problem::unavailable("model_not_loaded", message)
    };
    let threads = settings.threads.unwrap_or_else(default_threads);
    let (file, is_sealed) = match &offer.weights {
        Weights::File(path) => (Gguf::open(path).map_err(|error| failed(&error))?, false),
        Weights::Slot { slot, store, keys } => {
            // Read anew each time: a grant may have come.
            let keys = keys.as_deref().map_or_else(|| Ok(Keys::none()), Keys::open);
            let keys = keys.map_err(|error| failed(&error))?;
            let opened = gguf::open_or_discard(store, &keys, &slot.manifest, threads.get());
            let spoilt = |error: WeightsError| {
                let mut problem = failed(&error);
                if matches!(error, WeightsError::Damaged { .. } | WeightsError::Missing { .. }) {
                    problem.code = Some(SPOILT);
                }
                problem
            };
            (opened.map_err(spoilt)?, weights::is_sealed(store, &slot.manifest))
        }
    };
    let draft = settings.draft.as_ref().map(|path| Gguf::open(path)).transpose();
    let draft = draft.map_err(|error| failed(&error))?;
    let mut plan = plan(&file, draft.as_ref(), settings).map_err(|error| failed(&*error))?;
    if is_sealed {
        // The plain bytes stand in memory, since they stand in no file.
        plan.needed_bytes += file.file_bytes();
    }
    make_room(plan.needed_bytes)?;
    let isa = Isa::from_environment().map_err(|error| failed(&error))?;
    let compute = Arc::new(Compute::new(isa, threads));
    let model = Model::load(&file, compute).map_err(|error| failed(&error))?;
    let pages = model.network.page_shape(settings.cache).map_err(|error| failed(&error))?;
    let template = speech::template(file.metadata(), &model.tokenizer).map_err(|error| why(&error));
    let model = Arc::new(model);
    let draft = match (&settings.draft, draft) {
        (Some(path), Some(file)) => match draft_of(&file, &model, settings.cache) {
            Ok(draft) => Some(draft),
            Err(error) => {
                let message =
                    format!("{} cannot guess for {:?}: {}", path.display(), offer.name, why(&*error));
                // A release is not refused for what a person chose for another.
                if offer.weights.slot().is_none() {
                    return Err(Problem::unavailable("model_not_loaded", message));
                }
                tracing::warn!(message);
                None
            }
        },
        _ => None,
    };
    let speculation = Speculation { forced: settings.guess, lookup: settings.guess, draft };
    let batch = Batch::new(Arc::clone(&model), pages, plan.limits).speculating(speculation);
    let loaded = Loaded {
        offer,
        model,
        template,
        vocabulary: OnceLock::new(),
        gauges,
        context: plan.limits.context,
        places: plan.limits.running + plan.limits.waiting,
        needed_bytes: plan.needed_bytes,
        loaded_ns: now_ns(),
    };
    Ok((loaded, batch))
}

/// The model of a file, to guess for `target`.
fn draft_of(file: &Gguf, target: &Model, cache: CacheFormat) -> Result<Draft, Box<dyn std::error::Error>> {
    let model = Model::load(file, target.network.shared_compute())?;
    Ok(Draft::new(Arc::new(model), target, cache)?)
}

fn plan(
    file: &Gguf,
    draft: Option<&Gguf>,
    settings: &EngineSettings,
) -> Result<Plan, Box<dyn std::error::Error>> {
    let shape = family::shape(file.metadata())?;
    let trained = shape.context.max(1);
    // A context beyond what it was trained for gives nonsense, not more.
    let context = settings.context.unwrap_or(CONTEXT).clamp(1, trained);
    let needed = Needed::reckon(file, &shape, context, settings.cache)?;
    let one = usize::try_from(needed.cache)?;
    let whole = one.saturating_mul(settings.parallel.max(1));
    let cache_bytes = settings.cache_bytes.unwrap_or(whole.min(CACHE_BYTES).max(one));
    // An encoder keeps nothing.
    let cache_bytes = if shape.causal { cache_bytes } else { 0 };
    let prefix_bytes = cache_bytes / 2;
    let limits = Limits {
        running: settings.parallel.max(1),
        waiting: settings.queue,
        step_tokens: STEP_TOKENS.max(PAGE),
        context,
        cache_bytes,
        prefix_bytes,
    };
    let mut needed_bytes = needed.weights + needed.scratch + (cache_bytes + prefix_bytes) as u64;
    if let Some(draft) = draft {
        let its = Needed::reckon(draft, &family::shape(draft.metadata())?, context, settings.cache)?;
        // It keeps each sequence under way once more, in pages of its own.
        let kept = u128::from(its.cache) * cache_bytes as u128 / one.max(1) as u128;
        needed_bytes += its.weights + its.scratch + u64::try_from(kept)?;
    }
    Ok(Plan { limits, needed_bytes })
}
