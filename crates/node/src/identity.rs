//! Who this node is to its hub: a key that never leaves it, and a certificate that the hub made for the key.
//!
//! [`enrol`] gets the first one by a code or by the word of the device's maker; [`files`] keeps both; [`tls`] shows them; [`csr`] asks for the next; [`tend`] does so in
//! time. Which step is due is decided here, purely: from a third of a certificate's life on it is renewed, each node at a
//! moment of its own; one that has run out is renewed, too. Expiry never stops what runs on the node.

pub mod call;
pub mod csr;
pub mod enrol;
pub mod files;
pub mod tend;
pub mod tls;

use wire::world::WallMs;

/// The first pause after a failure, and the longest.
const PAUSE_MS: i64 = 30_000;
const PAUSE_MAX_MS: i64 = 3_600_000;

/// The same for coming in: the network of a device that was just switched on is up in seconds.
const COMING_IN_PAUSE_MS: f64 = 2_000.0;
const COMING_IN_PAUSE_MAX_MS: f64 = 600_000.0;

/// What is looked at again after this time at the latest: a clock may be set.
const LOOK_MS: i64 = 3_600_000;

/// What is known about the certificate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct State {
    /// From when it counts.
    pub not_before_ms: WallMs,
    /// Until when.
    pub not_after_ms: WallMs,
    /// Where in the second third of its life it is renewed: 0.0..1.0, drawn once for each.
    pub share: f64,
    /// How often the last step failed in a row.
    pub failures: u32,
    /// When it was tried last.
    pub tried_ms: Option<WallMs>,
    /// Whether the hub's certificate does not fit this node's time.
    pub is_doubted: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Ask the hub what time it is, and nothing else.
    AskTime,
    /// Ask for the next certificate.
    Renew,
    /// Nothing for so long, unless the time is doubted before.
    Wait {
        /// In milliseconds.
        ms: u64,
    },
}

/// What is due.
pub fn step(state: &State, now_ms: WallMs) -> Effect {
    let rest_ms = match (state.tried_ms, state.failures) {
        (Some(tried_ms), failures @ 1..) => {
            let pause_ms = PAUSE_MS.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(PAUSE_MAX_MS);
            // A clock that was set back must not make it wait longer than meant.
            tried_ms.saturating_add(pause_ms).saturating_sub(now_ms).clamp(0, pause_ms)
        }
        _ => 0,
    };
    let life_ms = state.not_after_ms.saturating_sub(state.not_before_ms).max(0);
    let due_ms = state.not_before_ms + life_ms / 3 + (life_ms as f64 / 3.0 * state.share) as i64;
    let wait = |ms: i64| Effect::Wait { ms: ms.clamp(1, LOOK_MS) as u64 };
    match () {
        () if rest_ms > 0 => wait(rest_ms),
        () if state.is_doubted => Effect::AskTime,
        () if now_ms >= due_ms => Effect::Renew,
        () => wait(due_ms - now_ms),
    }
}

/// How long a node that failed so often to come in waits. `share`: 0.0..1.0, so that a thousand that were switched on together
/// do not come together.
pub fn coming_in_pause_ms(failures: i32, share: f64) -> u64 {
    let full = (COMING_IN_PAUSE_MS * 2_f64.powi(failures.clamp(1, 20) - 1)).min(COMING_IN_PAUSE_MAX_MS);
    (full * (0.5 + share / 2.0)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    #[test]
    fn who_is_not_in_asks_again_ever_more_seldom() {
        assert_eq!((coming_in_pause_ms(1, 0.0), coming_in_pause_ms(1, 1.0)), (1_000, 2_000));
        assert_eq!((coming_in_pause_ms(4, 1.0), coming_in_pause_ms(i32::MAX, 1.0)), (16_000, 600_000));
    }

    #[test]
    fn what_is_due_when() {
        let state = State {
            not_before_ms: 0,
            not_after_ms: 90 * DAY_MS,
            share: 0.5,
            failures: 0,
            tried_ms: None,
            is_doubted: false,
        };
        let check =
            |state: State, now_ms: i64, expected| assert_eq!(step(&state, now_ms), expected, "{now_ms}");
        let hour = Effect::Wait { ms: 3_600_000 };
        check(state, DAY_MS, hour);
        check(state, 45 * DAY_MS - 1, Effect::Wait { ms: 1 });
        check(state, 45 * DAY_MS, Effect::Renew);
        check(State { share: 0.0, ..state }, 30 * DAY_MS, Effect::Renew);
        check(state, 400 * DAY_MS, Effect::Renew);
        let failed = State { failures: 1, tried_ms: Some(45 * DAY_MS), ..state };
        check(failed, 45 * DAY_MS + 10_000, Effect::Wait { ms: 20_000 });
        check(failed, 45 * DAY_MS + 30_000, Effect::Renew);
        check(State { failures: 40, ..failed }, 45 * DAY_MS, hour);
        check(State { failures: 40, ..failed }, DAY_MS, hour);
        let doubted = State { is_doubted: true, ..state };
        check(doubted, DAY_MS, Effect::AskTime);
        check(doubted, 400 * DAY_MS, Effect::AskTime);
        check(State { is_doubted: true, ..failed }, 45 * DAY_MS, Effect::Wait { ms: 30_000 });
    }
}
