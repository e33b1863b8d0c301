//! Brings one file's bytes into a sink, however often the line breaks.
//!
//! Each attempt begins at the first address again, because the addresses that redirects lead to expire. Attempts go on
//! where the last one stopped if something proves that the file is still the same; failures count until more of the file
//! is there than ever before, so that a server that always breaks off at the same place does not keep us for ever.

use std::time::Duration;

use reqwest::Url;
use wire::hash::Hash;
use wire::world::World;

use crate::pull::event::{Event, Meter};
use crate::pull::sink::{Desk, Sink, SinkError};
use crate::shelf::part::PartState;
use crate::web::answer::{Known, Verdict, judge};
use crate::web::http::{Answer, Ask, Web, WebError, shown};
use crate::web::retry::Patience;

/// Bytes are handed to the disk in pieces of this size, or after this time.
const FLUSH_BYTES: usize = 1 << 20;
const FLUSH_NS: u64 = 1_000_000_000;

/// An attempt that brought less than this counts as a failure all the same.
const PROGRESS_MIN_BYTES: u64 = 64 << 10;

/// A server that sends less than this within the idle time does not send.
const TRICKLE_MIN_BYTES: u64 = 1 << 10;

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server, or the way to it.
    #[error(transparent)]
    Web(#[from] WebError),
    /// The bytes, or the disk.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The repository and the server that has the file disagree.
    #[error("{url} has {found_bytes} bytes, but the repository says {promised_bytes}; try again later")]
    WrongSize {
        /// The file.
        url: String,
        /// What the repository says.
        promised_bytes: u64,
        /// What the server says.
        found_bytes: u64,
    },
    /// An answer that no server should give.
    #[error("{url} answers in a way that makes no sense: {why}")]
    Nonsense {
        /// The file.
        url: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Failed too often in a row.
    #[error("gave up after {failures} failures; what came is kept, pull again to go on")]
    GaveUp {
        /// How many.
        failures: u32,
        /// The last one.
        source: WebError,
    },
}

/// What to bring.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Where it is.
    pub(crate) url: Url,
    /// The repository's word for its size.
    pub(crate) promised_bytes: Option<u64>,
    /// The mark of the model that is here already: if the server has the same, nothing comes.
    pub(crate) if_none_match: Option<String>,
    /// The longest time without bytes.
    pub(crate) idle: Duration,
    /// How much failure is borne.
    pub(crate) patience: Patience,
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// All of it; this is its hash.
    All(Hash),
    /// Nothing: the server has what is here already.
    NotModified,
}

/// How an attempt ended that did not fail.
enum Turn {
    Done(Fetched),
    /// What was there is gone: ask for the whole.
    Restart,
}

/// Brings the file.
pub(crate) async fn fetch(
    web: &Web,
    job: &Job,
    desk: &mut Desk,
    world: &mut impl World,
    tell: &mut impl FnMut(Event),
) -> Result<Fetched, FetchError> {
    check(desk, tell).await?;
    let mut best_bytes = desk.sink().len();
    let mut failures = 0;
    let mut restarts = 0;
    loop {
        let was_there = desk.sink().len() > 0;
        let error = match attempt(web, job, desk, world, tell).await {
            Ok(Turn::Done(fetched)) => return Ok(fetched),
            // A file may be replaced while it comes; twice is a server that plays.
            Ok(Turn::Restart) if restarts == 0 => {
                restarts += 1;
                tell(Event::Restarting);
                continue;
            }
            Ok(Turn::Restart) => {
                let why = "the file is another each time it is asked for";
                return Err(FetchError::Nonsense { url: shown(&job.url), why });
            }
            // The old part may be what is wrong: a new beginning is worth one try.
            Err(FetchError::Sink(SinkError::WrongHash { .. })) if was_there && restarts == 0 => {
                restarts += 1;
                tell(Event::Restarting);
                continue;
            }
            Err(FetchError::Web(error)) => error,
            Err(error) => return Err(error),
        };
        desk.work(Sink::settle).await?;
        let len = desk.sink().len();
        if len >= best_bytes + PROGRESS_MIN_BYTES {
            (failures, best_bytes) = (0, len);
        }
        let Some(asked_ms) = error.passes() else { return Err(error.into()) };
        failures += 1;
        let Some(wait_ms) = job.patience.wait_ms(failures, asked_ms, world) else {
            return Err(FetchError::GaveUp { failures, source: error });
        };
        tell(Event::Waiting { wait_ms, why: error.to_string() });
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
}

/// Reads what an earlier download left.
async fn check(desk: &mut Desk, tell: &mut impl FnMut(Event)) -> Result<(), FetchError> {
    loop {
        match desk.work(Sink::check_step).await {
            Ok(Some(done_bytes)) => tell(Event::Checking { done_bytes, total_bytes: desk.sink().len() }),
            Ok(None) => return Ok(()),
            // What was left is no model; what the server has now may be one.
            Err(SinkError::NotAModel(_)) => {
                tell(Event::Restarting);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn attempt(
    web: &Web,
    job: &Job,
    desk: &mut Desk,
    world: &impl World,
    tell: &mut impl FnMut(Event),
) -> Result<Turn, FetchError> {
    if desk.sink().is_all() && desk.sink().state.sha256.is_some() {
        return Ok(Turn::Done(Fetched::All(desk.work(Sink::prove).await?)));
    }
    let have = if desk.sink().can_go_on() { desk.sink().len() } else { 0 };
    let old = desk.sink().state.clone();
    let if_none_match = job.if_none_match.clone().filter(|_| have == 0);
    let ask = Ask { from: have, if_range: old.etag.clone(), if_none_match, ..Ask::default() };
    let answer = web.get(&job.url, &ask).await?;
    let is_promised = job.promised_bytes.is_some();
    // Without a part the state's size and mark are those of an answer that came to nothing.
    let known = match have {
        0 => Known { etag: None, total_bytes: job.promised_bytes, is_promised },
        _ => Known { etag: old.etag.clone(), total_bytes: old.total_bytes, is_promised },
    };
    let url = || shown(&job.url);
    // The hash on the way is as good as the listing's; if it is another than before, the file is another.
    let sha256 = answer.sha256.or(old.sha256);
    if have > 0 && sha256 != old.sha256 {
        desk.work(Sink::discard).await?;
        return Ok(Turn::Restart);
    }
    let state = PartState { etag: answer.head.etag.clone(), sha256, ..old };
    match judge(&answer.head, have, &known) {
        Verdict::Append { total_bytes } if have > 0 => desk.work(move |sink| sink.go_on(total_bytes)).await?,
        Verdict::Append { total_bytes } => begin(desk, &answer, state, Some(total_bytes)).await?,
        Verdict::Whole { total_bytes } => {
            if have > 0 {
                tell(Event::Restarting);
            }
            begin(desk, &answer, state, total_bytes).await?;
        }
        Verdict::AskForWhole => {
            desk.work(Sink::discard).await?;
            return Ok(Turn::Restart);
        }
        Verdict::Complete => return Ok(Turn::Done(Fetched::All(desk.work(Sink::prove).await?))),
        Verdict::NotModified => return Ok(Turn::Done(Fetched::NotModified)),
        Verdict::WrongSize { promised_bytes, found_bytes } => {
            return Err(FetchError::WrongSize { url: url(), promised_bytes, found_bytes });
        }
        Verdict::Nonsense(why) => return Err(FetchError::Nonsense { url: url(), why }),
    }
    receive(answer, job, desk, world, tell).await?;
    Ok(Turn::Done(Fetched::All(desk.work(Sink::prove).await?)))
}

async fn begin(
    desk: &mut Desk,
    answer: &Answer,
    mut state: PartState,
    total_bytes: Option<u64>,
) -> Result<(), FetchError> {
    state.total_bytes = total_bytes;
    state.origin.etag = state.etag.clone();
    if answer.commit.is_some() {
        state.origin.commit = answer.commit.clone();
    }
    Ok(desk.work(move |sink| sink.begin(state)).await?)
}

/// Reads the body to its end. What came before a failure is in the sink.
async fn receive(
    mut answer: Answer,
    job: &Job,
    desk: &mut Desk,
    world: &impl World,
    tell: &mut impl FnMut(Event),
) -> Result<(), FetchError> {
    let total_bytes = desk.sink().state.total_bytes;
    let idle_ns = u64::try_from(job.idle.as_nanos()).unwrap_or(u64::MAX);
    let mut buffer = Vec::with_capacity(FLUSH_BYTES);
    let mut done_bytes = desk.sink().len();
    let mut meter = Meter::new(world.mono_ns(), done_bytes);
    let mut flushed_ns = world.mono_ns();
    let mut window = (world.mono_ns(), done_bytes);
    let end = loop {
        let chunk = match answer.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        let chunk = chunk.as_ref();
        buffer.extend_from_slice(chunk);
        done_bytes += chunk.len() as u64;
        let now = world.mono_ns();
        let too_long = total_bytes.is_some_and(|total| done_bytes > total);
        if buffer.len() >= FLUSH_BYTES || now.saturating_sub(flushed_ns) >= FLUSH_NS || too_long {
            flush(desk, &mut buffer).await?;
            flushed_ns = now;
        }
        if let Some(bytes_per_s) = meter.step(now, done_bytes) {
            tell(Event::Loading { done_bytes, total_bytes, bytes_per_s });
        }
        if now.saturating_sub(window.0) >= idle_ns {
            if done_bytes - window.1 < TRICKLE_MIN_BYTES && total_bytes != Some(done_bytes) {
                let why = "next to nothing comes".to_owned();
                break Err(WebError::Broken { host: host(&job.url), why });
            }
            window = (now, done_bytes);
        }
    };
    flush(desk, &mut buffer).await?;
    tell(Event::Loading { done_bytes, total_bytes, bytes_per_s: meter.bytes_per_s() });
    end?;
    match total_bytes {
        Some(total) if done_bytes < total => {
            let why = format!("{} of {total} bytes are missing", total - done_bytes);
            Err(WebError::Broken { host: host(&job.url), why }.into())
        }
        _ => Ok(()),
    }
}

async fn flush(desk: &mut Desk, buffer: &mut Vec<u8>) -> Result<(), FetchError> {
    if buffer.is_empty() {
        return Ok(());
    }
    let bytes = std::mem::replace(buffer, Vec::with_capacity(FLUSH_BYTES));
    Ok(desk.work(move |sink| sink.append(&bytes)).await?)
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}
