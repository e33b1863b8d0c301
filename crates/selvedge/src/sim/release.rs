//! What is wrong with a release, on which nodes.

use std::str::FromStr;

use anyhow::{Context as _, bail};
use wire::facts::Facts;
use wire::select::Selector;

/// What a release does to a node that it is bad for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Harm {
    /// It answers its golden set wrongly: refused before it serves.
    Golden,
    /// It breaks down in its trial.
    Crash,
    /// It takes the machine with it, each time.
    Reboot,
    /// It silences the node for good as soon as it serves.
    Silent,
    /// It works, in that many times the time.
    Slow(f64),
}

/// A harm, and how often it comes.
#[derive(Debug, Clone)]
pub(crate) struct Flaw {
    /// What it does.
    pub(crate) harm: Harm,
    /// The share of nodes.
    pub(crate) share: f64,
    /// Only of these nodes.
    pub(crate) only: Option<Selector>,
}

impl Flaw {
    /// Whether a node meets it; `lot` is drawn once for each node and flaw.
    pub(crate) fn meets(&self, facts: &Facts, lot: f64) -> bool {
        lot < self.share && self.only.as_ref().is_none_or(|only| only.has(facts))
    }
}

/// `crash:0.05`, `slow=3:1`, `golden:1:isa has "avx512"`.
impl FromStr for Flaw {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Flaw> {
        let mut parts = text.splitn(3, ':');
        let word = parts.next().unwrap_or_default();
        let share = parts.next().context("say how often, as in crash:0.05")?;
        let share: f64 = share.parse().with_context(|| format!("{share:?} is no share"))?;
        if !(0.0..=1.0).contains(&share) {
            bail!("a share is 0 to 1, {share} is not");
        }
        let harm = match word.split_once('=') {
            Some(("slow", times)) => Harm::Slow(times.parse().context("slow=3 means three times the time")?),
            None if word == "golden" => Harm::Golden,
            None if word == "crash" => Harm::Crash,
            None if word == "reboot" => Harm::Reboot,
            None if word == "silent" => Harm::Silent,
            _ => bail!("{word:?} is none of golden, crash, reboot, silent and slow=TIMES"),
        };
        if matches!(harm, Harm::Slow(times) if !(times.is_finite() && times > 0.0)) {
            bail!("slow needs a number above 0");
        }
        let only = parts.next().map(Selector::parse).transpose()?;
        Ok(Flaw { harm, share, only })
    }
}
