//! What the uplink asks of the agent, and what it tells it.

use std::sync::Arc;

use serde_json::Map;
use wire::PROTOCOL;
use wire::body::PartChange;
use wire::checkin::{CheckIn, CheckInAnswer, SourceState, StreamState};
use wire::id::{BootId, JournalId, NodeId};
use wire::world::{Clock, ClockQuality, MonoNs};

use super::follow::{Asked, Follower, Stands};
use super::shared::{Shared, VERSION};
use crate::config::Config;
use crate::inventory::Told;
use crate::policy::Policy;
use crate::source::queue::Messenger;
use crate::status::{StreamStatus, rss_bytes};
use crate::uplink::{Host, Notice, Work};

/// Clocks that differ by less agree.
const AGREE_MS: i64 = 5_000;

/// The agent, as the uplink sees it.
pub(super) struct AgentHost {
    node: NodeId,
    shared: Arc<Shared>,
    messenger: Messenger,
    boot: BootId,
    clock: Box<dyn Clock>,
    follower: Follower,
    told: Told,
    policy: Policy,
}

impl AgentHost {
    pub(super) fn new(
        config: &Config,
        shared: Arc<Shared>,
        messenger: Messenger,
        boot: BootId,
        clock: Box<dyn Clock>,
        follower: Follower,
    ) -> AgentHost {
        let (node, told) = (config.name.clone(), Told::default());
        let policy = config.policy.clone();
        AgentHost { node, shared, messenger, boot, clock, follower, told, policy }
    }
}

impl Host for AgentHost {
    fn check_in(&mut self, journal: JournalId, streams: Vec<StreamState>) -> CheckIn {
        let Stands { hub, revision, acks, checkpoint } = self.follower.stands();
        let (_, facts) = self.shared.said();
        let (accepted, mut models) = {
            let own = self.shared.own();
            (own.accepted.clone(), own.figures.clone())
        };
        models.iter_mut().for_each(|figures| figures.rss_bytes = rss_bytes());
        let mut status = self.shared.status();
        status.journal.streams = streams
            .iter()
            .map(|StreamState { stream, class, last, acked, .. }| StreamStatus {
                stream: stream.clone(),
                class: *class,
                last: *last,
                acked: *acked,
            })
            .collect();
        let sources = status.sources.iter().map(|source| SourceState {
            source: source.source.clone(),
            state: source.state.to_owned(),
            reason: (source.state != "running")
                .then(|| self.policy.text(Some(source.source.as_str()), &source.reason).map(str::to_owned))
                .flatten(),
            readings: source.readings,
            refused: source.refused,
            extra: Map::new(),
        });
        CheckIn {
            v: PROTOCOL,
            node: self.node.clone(),
            journal,
            boot: self.boot,
            version: VERSION.to_owned(),
            uptime_ms: self.clock.mono_ns() / 1_000_000,
            wall_ms: self.clock.wall_ms(),
            clock: self.shared.clock_quality(),
            flow: Some(status.flow),
            sources: sources.collect(),
            streams,
            rss_bytes: rss_bytes(),
            journal_bytes: Some(status.journal.bytes),
            slots: status.slots.clone(),
            trust: status.trust.clone(),
            hub,
            revision,
            nonce: None,
            inventory: Some(self.told.tell(facts)),
            accepted,
            acks,
            checkpoint,
            models,
            extra: Map::new(),
        }
    }

    fn answered(&mut self, answer: &CheckInAnswer, round_trip_ns: MonoNs) {
        let wall_ms = self.clock.wall_ms();
        // The hub looked at its clock somewhere within the round trip.
        let slack_ms = AGREE_MS.saturating_add((round_trip_ns / 1_000_000) as i64);
        let agree = wall_ms.saturating_sub(answer.hub_ms).saturating_abs() <= slack_ms;
        self.shared.own().skew_ms = wall_ms.saturating_sub(answer.hub_ms);
        self.shared.set_clock_quality(if agree { ClockQuality::Checked } else { ClockQuality::Off });
        if let Some(uplink) = &mut self.shared.status().uplink {
            uplink.answered_ms = Some(wall_ms);
            uplink.trouble = None;
            // A hub that cannot say it now has not said that there are others.
            uplink.assignments = answer.assignments.or(uplink.assignments);
        }
    }

    fn follow(&mut self, answer: &mut CheckInAnswer) -> Option<Work> {
        let Asked { full, soon, work } = self.follower.take(answer);
        self.told.heard(full);
        if soon {
            answer.next_ms = 0;
        }
        work
    }

    fn notice(&mut self, notice: Notice) {
        let reason = notice.to_string();
        let (part, state) = match &notice {
            Notice::Trouble(_) | Notice::Journal(_) => ("uplink", "failed"),
            Notice::Recovered | Notice::Rewound(_) => ("uplink", "ready"),
            Notice::Forked(_) => ("journal", "ready"),
        };
        let failed = state == "failed";
        if let Some(uplink) = &mut self.shared.status().uplink {
            let trouble = failed.then(|| reason.clone());
            if failed && uplink.trouble == trouble {
                // Told already, and nothing has gone up since.
                return;
            }
            if failed || notice == Notice::Recovered {
                uplink.trouble = trouble;
            }
        }
        match notice {
            Notice::Recovered => tracing::info!(reason, "the uplink works again"),
            // A hub that is away is nothing unusual at the edge: the node goes on, and so does this.
            _ if failed => tracing::warn!(reason, "the uplink has trouble; the node works on without"),
            _ => tracing::warn!(reason, "the uplink tells"),
        }
        self.messenger.tell(PartChange { part: part.to_owned(), state: state.to_owned(), reason });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use wire::checkin::{Command, Desired, HubLabels, SlotState, TrustFacts};
    use wire::world::Simulated;

    use super::super::looper::first_status;
    use super::*;
    use crate::journal::fork::ForkReport;
    use crate::source::queue::{Event, Outlet};
    use crate::sync::{Failure, Trouble};

    /// A node's host, what it shares, and the queue that hears what it notices.
    fn host(outlet: &Outlet) -> (AgentHost, Arc<Shared>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write(
            "node.toml",
            "[node]\nname = \"n\"\nlabels = { site = \"oslo\" }\n[hub]\nurl = \"http://hub\"\n",
        );
        write("flow.toml", "[source.s]\ntype = \"http\"\n");
        let config = Config::load(&dir.path().join("node.toml")).unwrap();
        let shared = Arc::new(Shared::new(first_status(&config), 0));
        let mut world = Simulated::new(1);
        let boot = BootId::random(&mut world);
        let follower = Follower::open(dir.path(), config.labels.clone(), true, Arc::clone(&shared)).unwrap();
        let (messenger, clock) = (outlet.messenger(), Box::new(world));
        let host = AgentHost::new(&config, Arc::clone(&shared), messenger, boot, clock, follower);
        (host, shared, dir)
    }

    #[test]
    fn the_hub_hears_of_slots_and_says_when_to_ask_for_assignments() {
        let outlet = Outlet::new(1);
        let (mut host, shared, _folder) = host(&outlet);
        let journal = JournalId::random(&mut Simulated::new(2));
        let checkin = host.check_in(journal, Vec::new());
        assert!(checkin.slots.is_empty() && checkin.trust.is_none());
        let slot = SlotState {
            model: "tiny".to_owned(),
            current: None,
            previous: Some(6),
            candidate: None,
            spare: None,
            safe: Some("nothing starts".to_owned()),
            waits: None,
            extra: Map::new(),
        };
        let trust = TrustFacts { root: Some(1), ..TrustFacts::default() };
        shared.tell_slots(vec![slot.clone()], Some(trust.clone()));
        let checkin = host.check_in(journal, Vec::new());
        assert_eq!((checkin.slots, checkin.trust), (vec![slot], Some(trust)));
        let mut answer = |assignments| {
            let answer = CheckInAnswer { v: PROTOCOL, next_ms: 1, assignments, ..CheckInAnswer::default() };
            host.answered(&answer, 0);
            shared.assignments_revision()
        };
        assert_eq!(answer(None), None);
        assert_eq!(answer(Some(7)), Some(7));
        assert_eq!(answer(None), Some(7), "a hub that cannot say it has not said anything else");
    }

    #[test]
    fn what_the_hub_has_is_durable_before_the_next_check_in_tells_it() {
        let outlet = Outlet::new(1);
        let (mut host, shared, folder) = host(&outlet);
        let journal = JournalId::random(&mut Simulated::new(2));
        let labels = HubLabels { rev: 1, set: BTreeMap::from([("site", "bergen"), ("line", "2")].map(own)) };
        let mut answer = CheckInAnswer {
            hub: Some("a".into()),
            desired: Some(Desired { revision: 7, documents: Vec::new() }),
            labels: Some(labels),
            commands: vec![Command { id: 3, order: "check_in".into(), until_ms: 1 }],
            next_ms: 60_000,
            ..CheckInAnswer::default()
        };
        let first = host.check_in(journal, Vec::new());
        assert_eq!((first.hub, first.revision, first.inventory.unwrap().base), (None, None, 0));
        let work = host.follow(&mut answer).unwrap();
        assert_eq!(answer.next_ms, 0, "it was told to come again");
        assert_eq!(host.check_in(journal, Vec::new()).revision, None, "nothing is told before it is durable");
        work();
        let next = host.check_in(journal, Vec::new());
        assert_eq!((next.hub.as_deref(), next.revision, next.acks.len()), (Some("a"), Some(7), 1));
        let said = next.inventory.unwrap();
        assert_eq!((said.base, &said.set["label.line"]), (1, &"2".into()), "the difference");
        let labels = BTreeMap::from([("site", "oslo"), ("line", "2")].map(own));
        assert_eq!(shared.own().labels, labels, "the node's own win");
        // Told twice, nothing happens twice.
        assert!(host.follow(&mut answer).is_none());
        let again = Follower::open(folder.path(), BTreeMap::new(), true, Arc::clone(&shared)).unwrap();
        assert_eq!(again.stands().revision, Some(7), "another life knows");
    }

    fn own((name, value): (&str, &str)) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn what_the_uplink_notices_is_remembered_once_a_change() {
        let (outlet, mut world) = (Outlet::new(1), Simulated::new(1));
        let (mut host, shared, _folder) = host(&outlet);
        let (old, new) = (JournalId::random(&mut world), JournalId::random(&mut world));
        let away = || Notice::Trouble(Trouble::Hub(Failure::Unreachable { why: "no route".to_owned() }));
        let unread = || Notice::Journal("it is locked".to_owned());
        // What is noticed, the part and state that are remembered, whether the status tells of trouble.
        type Told = Option<(&'static str, &'static str)>;
        let cases: [(Notice, Told, bool); 6] = [
            (away(), Some(("uplink", "failed")), true),
            (Notice::Recovered, Some(("uplink", "ready")), false),
            (unread(), Some(("uplink", "failed")), true),
            (unread(), None, true),
            (Notice::Forked(ForkReport { old, new, streams: Vec::new() }), Some(("journal", "ready")), true),
            (away(), Some(("uplink", "failed")), true),
        ];
        for (notice, told, trouble) in cases {
            let reason = notice.to_string();
            host.notice(notice);
            let change = outlet.next_now().map(|arrival| arrival.event);
            let expected = told.map(|(part, state)| {
                let (part, state) = (part.to_owned(), state.to_owned());
                Event::Part(PartChange { part, state, reason: reason.clone() })
            });
            assert_eq!(change, expected, "{reason}");
            assert_eq!(shared.status().uplink.as_ref().unwrap().trouble.is_some(), trouble, "{reason}");
        }
    }
}
