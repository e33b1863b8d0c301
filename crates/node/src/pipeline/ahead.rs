//! Looks ahead: what waits of a source is told beforehand to networks that may be asked for several looks in one run.
//!
//! A hint and nothing more: what comes of a reading or a picture comes of it when it is taken, and is the same without. While health
//! does not believe a channel nothing is told, for a network then sees something else than what waits.

use std::sync::Arc;

use wire::world::{Clock, WallMs};

use super::Pipeline;
use super::networks::Now;
use super::products::Product;
use crate::health::Health;
use crate::source::frame::Frame;

impl Pipeline {
    /// How many readings or pictures of a source, from the next one on, are worth telling beforehand; 0: none.
    pub fn foresight(&self, source: usize) -> usize {
        let is_doubtful = |health: &Health| health.isolated() > 0;
        match &self.lanes[source].open {
            Some(open) if !open.health.as_ref().is_some_and(is_doubtful) => self.networks.foresight(source),
            _ => 0,
        }
    }

    /// Readings that wait, of which the first `first` are taken next. Appends what comes of a network that breaks over them.
    pub fn foresee<'a>(
        &mut self,
        source: usize,
        first: usize,
        coming: impl Iterator<Item = (WallMs, &'a [f64])> + Clone,
        clock: &dyn Clock,
        out: &mut Vec<Product>,
    ) {
        let Some(channels) = self.channels(source).map(<[String]>::len) else { return };
        if self.foresight(source) == 0 {
            return;
        }
        let now = Now { part: &self.lanes[source].part, clock, crumb: &self.crumb };
        let coming = coming.take_while(|(_, values)| values.len() == channels);
        self.networks.foresee(source, &now, out, |network| network.foresee(first, coming.clone(), clock));
    }

    /// Pictures that wait, of which the first is taken next.
    pub fn foresee_pictures(
        &mut self,
        source: usize,
        coming: &[Arc<Frame>],
        clock: &dyn Clock,
        out: &mut Vec<Product>,
    ) {
        if coming.len() < 2 || self.foresight(source) == 0 {
            return;
        }
        let now = Now { part: &self.lanes[source].part, clock, crumb: &self.crumb };
        self.networks.foresee(source, &now, out, |network| network.foresee_pictures(coming, clock));
    }
}
