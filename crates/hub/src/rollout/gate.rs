//! May the next wave open, must the rollout stop, or is something still missing.
//!
//! The first wave counts: at 100 nodes no test finds a failure of 5 % as surely as "nobody failed" does. Later waves test.
//! The unit is the node, never the request. Silence is never a success. A gate may stop at any moment, and passes only a
//! wave that is full: no node that was heard lately still waits for its document.

use std::fmt;

use serde::{Deserialize, Serialize};
use wire::world::WallMs;

use crate::rollout::member::{STANDINGS, Standing};
use crate::rollout::plan::{Gate, Kind};
use crate::rollout::sequential::{ARM_MIN, Figures, Trouble, difference, share};

/// How many members of a wave stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Offered.
    pub offered: u32,
    /// Taken.
    pub taken: u32,
    /// Trying.
    pub trying: u32,
    /// Succeeded.
    pub succeeded: u32,
    /// Failed.
    pub failed: u32,
    /// Unable.
    pub unable: u32,
    /// Unknown.
    pub unknown: u32,
    /// Back.
    pub back: u32,
    /// Superseded.
    pub superseded: u32,
}

impl Tally {
    /// How many stand there; nobody is counted as waiting.
    pub fn of(&self, standing: Standing) -> u32 {
        let mut it = *self;
        it.place(standing).map_or(0, |count| *count)
    }

    /// A member moves.
    pub fn moved(&mut self, from: Standing, to: Standing) {
        if let Some(count) = self.place(from) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.place(to) {
            *count = count.saturating_add(1);
        }
    }

    /// All members: whoever was offered stays one.
    pub fn members(&self) -> u32 {
        let settled = self.succeeded + self.failed + self.unable + self.back + self.superseded;
        self.pending() + self.unknown + settled
    }

    /// Members that run the new release, or may come to.
    pub fn out(&self) -> u32 {
        self.pending() + self.succeeded + self.unable + self.unknown
    }

    /// Adds another wave's members.
    pub fn add(&mut self, other: &Tally) {
        for standing in STANDINGS {
            if let Some(count) = self.place(standing) {
                *count = count.saturating_add(other.of(standing));
            }
        }
    }

    /// Members that may answer at any moment.
    pub fn pending(&self) -> u32 {
        self.offered + self.taken + self.trying
    }

    fn place(&mut self, standing: Standing) -> Option<&mut u32> {
        Some(match standing {
            Standing::Waiting => return None,
            Standing::Offered => &mut self.offered,
            Standing::Taken => &mut self.taken,
            Standing::Trying => &mut self.trying,
            Standing::Succeeded => &mut self.succeeded,
            Standing::Failed => &mut self.failed,
            Standing::Unable => &mut self.unable,
            Standing::Unknown => &mut self.unknown,
            Standing::Back => &mut self.back,
            Standing::Superseded => &mut self.superseded,
        })
    }
}

/// What the rows do not know: the fleet around a rollout, as it is at a tick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The wave that this was seen for; of another wave it says nothing.
    pub wave: u32,
    /// Nodes of the group in the open ring that were heard in the last hour, have no row, and do not run it already.
    pub waiting: u32,
    /// The same, but not heard in the last hour.
    pub asleep: u32,
    /// Nodes of the group in the open ring that ran the release before they were offered.
    pub had_it: u32,
    /// Nodes of the group that were not offered yet, wherever they are.
    pub held_out: u32,
    /// Members that run the new release, or may come to, and were heard in the last hour. Needed while going back.
    pub returning: u32,
}

/// What tests A, B and C remember of the open wave.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tests {
    /// Test B.
    pub trouble: Trouble,
    /// Test C.
    pub figures: Figures,
}

/// What a rollout waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "need", rename_all = "snake_case")]
pub enum Need {
    /// Documents that nobody has signed yet.
    Signature {
        /// Which.
        of: Vec<Kind>,
    },
    /// People who agree.
    Approval {
        /// How many.
        of: u8,
        /// How many did.
        have: u8,
    },
    /// A word of a person.
    Person {
        /// About what.
        ask: Ask,
        /// What happened.
        why: String,
    },
    /// Nodes of the open ring that wait for their document: they are about to come, or kept back by a budget.
    Room {
        /// How many.
        nodes: u32,
    },
    /// Members that have not answered yet.
    Answers {
        /// How many are on their way.
        pending: u32,
        /// How many are silent.
        unknown: u32,
    },
    /// More members that answer.
    Reports {
        /// How many.
        missing: u32,
    },
    /// Figures that nobody tells.
    Figures {
        /// Which.
        metric: String,
    },
    /// Members that must go back.
    Returning {
        /// How many.
        nodes: u32,
    },
    /// Time.
    Time {
        /// Until then.
        until_ms: WallMs,
    },
    /// Nodes know more than this hub: somebody must look.
    Conflict {
        /// How many.
        nodes: u32,
    },
}

/// What a person is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Shall it begin: `start`.
    Start,
    /// Shall the next wave open: `resume`.
    Next,
    /// It was paused: `resume`, `abort` or `revert`.
    Paused,
    /// A gate stopped it: `resume` in spite of it, `abort` or `revert`.
    Stopped,
    /// Nodes are kept back from their document: `skip-unknown`, or wait.
    KeptBack,
    /// Nodes stay silent: `skip-unknown`, or wait.
    Unknown,
    /// Too few answered: `skip-unknown`, or wait.
    FewReports,
    /// Figures are missing: `skip-unknown`, or wait.
    FewFigures,
    /// Nodes do not go back: look at them, or `abort`.
    Stuck,
    /// The signed documents have expired: make a new rollout.
    Expired,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::Signature { of } => {
                let of: Vec<String> = of.iter().map(ToString::to_string).collect();
                write!(f, "signatures of {}", of.join(", "))
            }
            Need::Approval { of, have } => write!(f, "{have} of {of} approvals"),
            Need::Person { why, .. } => write!(f, "a person: {why}"),
            Need::Room { nodes } => write!(f, "{nodes} nodes that have not got their document yet"),
            Need::Answers { pending, unknown: 0 } => write!(f, "answers of {pending} nodes"),
            Need::Answers { pending, unknown } => {
                write!(f, "answers of {pending} nodes, and {unknown} that are silent")
            }
            Need::Reports { missing } => write!(f, "{missing} more nodes that answer"),
            Need::Figures { metric } => {
                write!(f, "{metric} of {ARM_MIN} nodes with it and {ARM_MIN} without")
            }
            Need::Returning { nodes } => write!(f, "{nodes} nodes on their way back"),
            Need::Time { until_ms } => {
                write!(f, "{}", package::trust::time::format_utc(*until_ms))
            }
            Need::Conflict { nodes } => write!(f, "{nodes} nodes know more than this hub"),
        }
    }
}

/// One condition: what was asked, what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Of what.
    pub what: String,
    /// What must be.
    pub asked: String,
    /// What is.
    pub found: String,
    /// Whether it holds.
    pub holds: bool,
}

/// Why a gate passed or stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The wave before the gate.
    pub wave: u32,
    /// When it was judged.
    pub at_ms: WallMs,
    /// Every condition that was looked at.
    pub asked: Vec<Asked>,
}

impl Evidence {
    /// The conditions that did not hold, in one line.
    pub fn why(&self) -> String {
        let broken = self.asked.iter().filter(|one| !one.holds);
        let broken: Vec<String> =
            broken.map(|one| format!("{} {}, asked was {}", one.what, one.found, one.asked)).collect();
        broken.join("; ")
    }
}

/// What a gate says.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Something is missing.
    Wait(Vec<Need>),
    /// The next wave may open.
    Pass(Evidence),
    /// It must not go on.
    Stop(Evidence),
}

/// What a gate looks at.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// What is asked.
    pub gate: &'a Gate,
    /// The open wave.
    pub wave: u32,
    /// Its members.
    pub tally: &'a Tally,
    /// Members of earlier waves that failed since this one opened.
    pub late: u32,
    /// Failures that a person knows of, and went on.
    pub pardoned: u32,
    /// Whether a person said to go on without those who do not answer.
    pub skip_unknown: bool,
    /// The tests.
    pub tests: &'a Tests,
    /// The fleet; `None` before the first tick of the wave.
    pub seen: Option<&'a View>,
    /// When the wave opened.
    pub since_ms: WallMs,
    /// When it was full for the first time.
    pub full_ms: Option<WallMs>,
}

impl Case<'_> {
    fn failed(&self) -> u32 {
        (self.tally.failed + self.late).saturating_sub(self.pardoned)
    }

    fn answered(&self) -> u32 {
        self.failed() + self.tally.succeeded
    }

    fn patience_over(&self, now_ms: WallMs) -> bool {
        now_ms >= self.since_ms + i64::from(self.gate.patience_s) * 1000
    }

    /// Whether nobody waits for the document and everybody who has it has answered, as far as one waits for that.
    pub fn is_full(&self, now_ms: WallMs) -> bool {
        let answered = self.tally.pending() == 0 || self.patience_over(now_ms);
        self.seen.is_some_and(|seen| seen.waiting == 0 && answered || self.skip_unknown)
    }

    /// What stops it, looked at after every event.
    fn alarms(&self) -> Vec<Asked> {
        let (failed, answered) = (self.failed(), self.answered());
        let mut asked = Vec::new();
        if self.gate.max_failed < u32::MAX {
            asked.push(Asked {
                what: "failed".to_owned(),
                asked: format!("at most {}", self.gate.max_failed),
                found: failed.to_string(),
                holds: failed <= self.gate.max_failed,
            });
        }
        if self.gate.alpha_ppm == 0 {
            return asked;
        }
        // A wave's α is shared: a third for each test, and test C's third by its metrics.
        let alpha = f64::from(self.gate.alpha_ppm) / 1e6 / 3.0;
        let test = |what: String, ln_e: f64, alpha: f64, and: bool, found: String| Asked {
            what,
            asked: format!("E below {:.0}", 1.0 / alpha),
            found: format!("E {:.3} {found}", ln_e.min(60.0).exp()),
            holds: !(and && ln_e >= (1.0 / alpha).ln()),
        };
        let ln_e = share(failed, answered, f64::from(self.gate.p0_ppm) / 1e6);
        asked.push(test(
            "test A, failing nodes".into(),
            ln_e,
            alpha,
            true,
            format!("({failed} of {answered})"),
        ));
        let trouble = &self.tests.trouble;
        let found = format!("({} with it, {} without)", trouble.treated, trouble.held_out);
        asked.push(test("test B, troubles".into(), trouble.ln_e(), alpha, true, found));
        let each = alpha / f64::from(u32::try_from(self.gate.compare.len().max(1)).unwrap_or(1));
        for compare in &self.gate.compare {
            let arms = self.tests.figures.get(&compare.metric);
            let effect = (f64::from(compare.min_effect_ppm) / 1e6).ln_1p();
            if let Some(it) = arms.and_then(|arms| difference(arms, effect, compare.worse)) {
                let found = format!("({:+.1} %)", it.change.exp_m1() * 100.0);
                asked.push(test(format!("test C, {}", compare.metric), it.ln_e, each, it.is_worse, found));
            }
        }
        asked
    }
}

/// Judges a wave.
pub fn judge(case: &Case<'_>, now_ms: WallMs) -> Verdict {
    let Case { gate, tally, wave, .. } = *case;
    let mut asked = case.alarms();
    if asked.iter().any(|one| !one.holds) {
        return Verdict::Stop(Evidence { wave, at_ms: now_ms, asked });
    }
    let Some(seen) = case.seen else {
        return Verdict::Wait(vec![Need::Time { until_ms: now_ms }]);
    };
    let mut needs = Vec::new();
    // Silent members count as unknown once patience is over, whether they were heard in between or not.
    let (late, skip) = (case.patience_over(now_ms), case.skip_unknown);
    let unknown = tally.unknown + if late { tally.pending() } else { 0 };
    let person = |ask, why: String| Need::Person { ask, why };
    if !skip && seen.waiting > 0 {
        needs.push(Need::Room { nodes: seen.waiting });
        if late {
            let why = format!(
                "{} nodes come by and are kept back: by a budget, the rate, a failure or another rollout",
                seen.waiting
            );
            needs.push(person(Ask::KeptBack, why));
        }
    }
    if !skip && !late && tally.pending() > 0 || !skip && unknown > gate.max_unknown {
        needs.push(Need::Answers { pending: tally.pending(), unknown: tally.unknown });
        if late {
            let why =
                format!("{unknown} nodes were offered it and do not answer, at most {}", gate.max_unknown);
            needs.push(person(Ask::Unknown, why));
        }
    }
    let could = tally.members() + seen.waiting + seen.asleep;
    let (reports, least) = (case.answered(), gate.min_reports.min(could));
    if !skip && reports < least {
        needs.push(Need::Reports { missing: least - reports });
        if late {
            needs.push(person(Ask::FewReports, format!("{reports} nodes answered, at least {least}")));
        }
    }
    for compare in &gate.compare {
        let arms = case.tests.figures.get(&compare.metric).copied().unwrap_or_default();
        let few = arms.treated.n < ARM_MIN || arms.held_out.n < ARM_MIN;
        if few && !compare.optional && !skip && seen.held_out > 0 {
            needs.push(Need::Figures { metric: compare.metric.clone() });
            if late {
                let why = format!("{} is told by too few nodes to compare it", compare.metric);
                needs.push(person(Ask::FewFigures, why));
            }
        }
    }
    let soaked_ms = case.full_ms.map(|full| full + i64::from(gate.soak_s) * 1000);
    match soaked_ms {
        Some(until_ms) if now_ms < until_ms => needs.push(Need::Time { until_ms }),
        None if needs.is_empty() => needs.push(Need::Time { until_ms: now_ms }),
        _ => {}
    }
    if !needs.is_empty() {
        return Verdict::Wait(needs);
    }
    let most = u64::from(reports) * (1_000_000 - u64::from(gate.success_ppm));
    asked.push(Asked {
        what: "answers".to_owned(),
        asked: if skip {
            "as many as there are: a person said so".to_owned()
        } else {
            format!("at least {least}")
        },
        found: reports.to_string(),
        holds: true,
    });
    asked.push(Asked {
        what: "silent".to_owned(),
        asked: if skip {
            "any: a person said so".to_owned()
        } else {
            format!("at most {}", gate.max_unknown)
        },
        found: unknown.to_string(),
        holds: true,
    });
    asked.push(Asked {
        what: "succeeded".to_owned(),
        asked: format!("at least {} % of those that answered", f64::from(gate.success_ppm) / 1e4),
        found: format!("{} of {reports}", reports - case.failed()),
        holds: u64::from(case.failed()) * 1_000_000 <= most,
    });
    let evidence = Evidence { wave, at_ms: now_ms, asked };
    if evidence.asked.iter().all(|one| one.holds) { Verdict::Pass(evidence) } else { Verdict::Stop(evidence) }
}
