//! What belongs to one source of a pipeline: its settings and counts, and when it is open its channels and what waits of its readings.
//!
//! Raw readings are gathered in blocks, a record for each: full blocks, or those that waited long enough.

use signal::reading::Reading;
use signal::window::{Window, WindowConfig, Windows};
use wire::hash::Hash;
use wire::id::PartName;
use wire::world::{MonoNs, WallMs};

use super::late::Late;
use super::products::Product;
use super::recent::{Recent, columns};
use super::summary::Tracker;
use crate::board::Slot;
use crate::flow::source::SourceConfig;
use crate::health::Health;

/// Readings in one raw record.
const BLOCK_READINGS: usize = 256;
/// Values in one raw record: it stays below `wire::record::BODY_MAX_BYTES` whatever the numbers.
const BLOCK_VALUES: usize = 6_144;
/// Raw readings wait no longer than this for their block to fill.
pub(super) const BLOCK_NS: MonoNs = 1_000_000_000;

/// What belongs to one source.
pub(super) struct Lane {
    /// `source.` and its name.
    pub(super) part: String,
    pub(super) config: SourceConfig,
    pub(super) open: Option<Open>,
    pub(super) features: Vec<usize>,
    /// Those that look at the source itself.
    pub(super) models: Vec<usize>,
    /// In the order in which they are judged.
    pub(super) rules: Vec<usize>,
    pub(super) taken: u64,
    pub(super) late: u64,
    /// Readings that batches brought, and those of them that were looked at: fewer only while a batch is given up.
    pub(super) brought: u64,
    pub(super) seen: u64,
    /// It came to its end, and brings nothing more.
    pub(super) ended: bool,
    /// What was learnt of its sensors in an earlier life; it is looked at when it opens.
    pub(super) habits: Option<Vec<u8>>,
}

/// A source whose channels are known.
pub(super) struct Open {
    pub(super) channels: Vec<String>,
    pub(super) windows: Windows,
    scratch: Reading,
    pub(super) block_since_ns: Option<MonoNs>,
    /// Which of the readings brought is the first in the block that is not written yet.
    pub(super) block_first: u64,
    pub(super) summary: Tracker,
    /// Whether its sensors can be believed; `None`: nobody asks.
    pub(super) health: Option<Health>,
    /// The last readings as they came, for digests.
    pub(super) recent: Recent,
    /// The digest of the last picture, of a source that gives pictures.
    pub(super) seen: Option<Hash>,
    pub(super) last_ms: Option<WallMs>,
    pub(super) late: Late,
    pub(super) last_arrival_ns: MonoNs,
    /// The channels that somebody speaks of: which, and where they stand on the board.
    pub(super) columns: Vec<(usize, Slot)>,
}

impl Open {
    /// One whose channels were just told. `health`: what judges its sensors, if somebody asks.
    pub(super) fn new(config: &SourceConfig, channels: &[String], health: Option<Health>) -> Open {
        let len = (BLOCK_VALUES / channels.len()).clamp(1, BLOCK_READINGS);
        let window =
            WindowConfig { channels: channels.len(), len, max_ms: None, max_gap_ms: config.max_gap_ms };
        Open {
            channels: channels.to_vec(),
            windows: Windows::new(window).expect("a block of 1 to 256 readings, and a gap above 0"),
            scratch: Reading { t_ms: 0, values: Vec::with_capacity(channels.len()) },
            block_since_ns: None,
            block_first: 0,
            summary: Tracker::new(channels.len()),
            health,
            recent: Recent::new(1),
            seen: None,
            last_ms: None,
            late: Late::default(),
            last_arrival_ns: 0,
            columns: Vec::new(),
        }
    }

    /// Takes a reading into the block of raw readings, and gives the block when it is full. `number`: its place among those brought.
    pub(super) fn window(
        &mut self,
        t_ms: WallMs,
        values: &[f64],
        number: u64,
        arrived_ns: MonoNs,
        source: &PartName,
        out: &mut Vec<Product>,
    ) {
        self.scratch.t_ms = t_ms;
        self.scratch.values.clear();
        self.scratch.values.extend_from_slice(values);
        if let Some(window) = self.windows.push(&self.scratch) {
            out.push(self.block(&window, source));
            self.block_since_ns = None;
        }
        if self.windows.held() == 1 {
            self.block_first = number;
        }
        if self.windows.held() > 0 {
            self.block_since_ns.get_or_insert(arrived_ns);
        }
    }

    /// Gives the block as it is, if there is one.
    pub(super) fn close_block(&mut self, source: &PartName, out: &mut Vec<Product>) {
        if let Some(window) = self.windows.flush() {
            out.push(self.block(&window, source));
        }
        self.block_since_ns = None;
    }

    fn block(&self, window: &Window, source: &PartName) -> Product {
        let rows = || window.rows();
        Product::Readings(columns(source, &self.channels, window.t_ms.clone(), rows))
    }
}
