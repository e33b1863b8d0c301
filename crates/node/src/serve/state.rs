//! What all requests of one server share.

use std::sync::{Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use tokio::sync::{Semaphore, watch};
use wire::world::World;

use super::body;
use super::limits::{BODIES, PREPARING};
use super::metrics::Metrics;
use super::models::Models;
use super::order::Ticket;
use super::problem::Problem;
use crate::api::connections::Now;
use crate::api::guard::Guard;

/// What all requests of one server share.
pub(super) struct State {
    pub(super) models: Models,
    pub(super) guard: Guard,
    pub(super) metrics: Metrics,
    pub(super) now: Now,
    world: Mutex<Box<dyn World>>,
    bodies: Semaphore,
    preparing: Semaphore,
    /// True once answers under way must end.
    cut: watch::Receiver<bool>,
}

impl State {
    pub(super) fn new(
        models: Models,
        guard: Guard,
        world: Box<dyn World>,
        now: Now,
        cut: watch::Receiver<bool>,
    ) -> State {
        State {
            models,
            guard,
            metrics: Metrics::default(),
            now,
            world: Mutex::new(world),
            bodies: Semaphore::new(BODIES),
            preparing: Semaphore::new(PREPARING),
            cut,
        }
    }

    /// The body of a request, whole.
    pub(super) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
        body::read(&self.bodies, headers, body).await
    }

    /// Does what keeps a core busy where it holds up nobody's answer.
    pub(super) async fn prepare<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let _permit = self.preparing.acquire().await;
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|_| Err(Problem::internal("making the request ready failed")))
    }

    /// What is known of a request before it is asked, and where its draws begin if it does not say.
    pub(super) fn ticket(&self, signals: bool) -> (Ticket, u64) {
        let mut bytes = [0; 20];
        let created_ms = {
            let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
            world.fill(&mut bytes);
            world.wall_ms()
        };
        let nonce = bytes[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        let seed = bytes[12..].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        (Ticket { nonce, created_ms, signals, cut: self.cut.clone() }, seed)
    }

    /// Milliseconds since 1970.
    pub(super) fn wall_ms(&self) -> i64 {
        self.world.lock().unwrap_or_else(PoisonError::into_inner).wall_ms()
    }
}
