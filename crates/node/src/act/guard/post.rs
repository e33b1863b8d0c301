//! What the guard does about one device, decided purely.

use wire::body::act::Setting;
use wire::world::MonoNs;

use crate::act::word::{Held, Said};

/// A device that did not go back is tried again after so long, then after twice as long, and so on up to the second.
const RETRY_NS: MonoNs = 200_000_000;
const RETRY_MOST_NS: MonoNs = 5_000_000_000;

/// What the device is doing.
#[derive(Debug, Clone, PartialEq)]
enum Busy {
    /// As the node ordered.
    Ordered { id: u64, to: Setting },
    /// Going back.
    Back,
}

/// One device, and what the guard knows of it.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) held: Held,
    busy: Option<Busy>,
    /// It last took its safe setting.
    is_safe: bool,
    /// It shall go back.
    wants_back: bool,
    /// Nothing but the safe setting is taken until that was ordered, too.
    is_locked: bool,
    /// Why it goes back by itself, while the node has not been told.
    lapsed: Option<String>,
    lease_until_ns: MonoNs,
    retry_ns: MonoNs,
    pause_ns: MonoNs,
}

/// What comes of an order.
#[derive(Debug, PartialEq)]
pub(super) enum Todo {
    Set(Setting),
    Say(Said),
}

/// Whether what a device says is what it was set to.
pub(super) fn agrees(held: &Held, set: &Setting, read: &Setting) -> bool {
    match (set, read) {
        (Setting::Number(set), Setting::Number(read)) => (set - read).abs() <= held.tolerance,
        (set, read) => set == read,
    }
}

impl Post {
    pub(super) fn new(held: Held, now_ns: MonoNs) -> Post {
        let lease_until_ns = now_ns.saturating_add(held.lease_ms * 1_000_000);
        Post {
            held,
            busy: None,
            is_safe: false,
            wants_back: false,
            is_locked: true,
            lapsed: None,
            lease_until_ns,
            retry_ns: 0,
            pause_ns: RETRY_NS,
        }
    }

    /// The node is alive.
    pub(super) fn alive(&mut self, now_ns: MonoNs) {
        self.lease_until_ns = now_ns.saturating_add(self.held.lease_ms * 1_000_000);
    }

    /// The node orders a setting.
    pub(super) fn order(&mut self, id: u64, to: Setting) -> Todo {
        let is_safe = to == self.held.safe;
        let refused = match () {
            () if self.wants_back => Some("the guard is bringing it back to its safe setting".to_owned()),
            () if self.busy.is_some() => Some("it is busy with the order before".to_owned()),
            () if self.is_locked && !is_safe => {
                Some("it takes its safe setting first: it was brought back without an order".to_owned())
            }
            () => self.held.allowed.check(&to).err(),
        };
        if let Some(failed) = refused {
            let actuator = self.held.name.clone();
            return Todo::Say(Said::Set { actuator, id, read: None, failed: Some(failed), took_ms: 0 });
        }
        self.is_safe = false;
        self.busy = Some(Busy::Ordered { id, to: to.clone() });
        Todo::Set(to)
    }

    /// The device did what it was told last, or not. Gives what the node is told.
    pub(super) fn did(
        &mut self,
        read: Result<Option<Setting>, String>,
        took_ms: u64,
        now_ns: MonoNs,
    ) -> Vec<Said> {
        let (safe, actuator) = (self.held.safe.clone(), self.held.name.clone());
        let took = |to: &Setting| match &read {
            Ok(Some(read)) => agrees(&self.held, to, read),
            Ok(None) => true,
            Err(_) => false,
        };
        match self.busy.take() {
            None => Vec::new(),
            Some(Busy::Ordered { id, to }) => {
                let is_back = to == safe && took(&safe);
                self.is_safe = is_back;
                if is_back && !self.wants_back {
                    self.is_locked = false;
                }
                let (read, failed) = match read {
                    Ok(read) => (read, None),
                    Err(failed) => (None, Some(failed)),
                };
                vec![Said::Set { actuator, id, read, failed, took_ms }]
            }
            Some(Busy::Back) => {
                if took(&safe) {
                    (self.is_safe, self.wants_back, self.pause_ns) = (true, false, RETRY_NS);
                } else {
                    self.retry_ns = now_ns.saturating_add(self.pause_ns);
                    self.pause_ns = (self.pause_ns * 2).min(RETRY_MOST_NS);
                }
                self.lapsed.take().map(|why| Said::Lapsed { actuator, why }).into_iter().collect()
            }
        }
    }

    /// The device may have gone back by itself: what it hangs on broke.
    pub(super) fn lost(&mut self, why: &str) {
        if !self.is_safe && !self.wants_back {
            self.fall_back(&format!("{why}: it is brought back"));
        }
    }

    fn fall_back(&mut self, why: &str) {
        (self.wants_back, self.is_locked, self.lapsed) = (true, true, Some(why.to_owned()));
        self.retry_ns = 0;
    }

    /// It shall go back, and take no more orders: the node is gone.
    pub(super) fn bring_back(&mut self) {
        (self.wants_back, self.is_locked) = (true, true);
        self.retry_ns = 0;
    }

    /// Whether it is back, and nothing is under way to it.
    pub(super) fn is_back(&self) -> bool {
        self.busy.is_none() && !self.wants_back
    }

    /// What it is to be set to now, if something.
    pub(super) fn due(&mut self, now_ns: MonoNs) -> Option<Setting> {
        if !self.wants_back && !self.is_safe && now_ns >= self.lease_until_ns {
            self.fall_back("the guard heard nothing of the node for a lease, and brought it back");
        }
        if !self.wants_back || self.busy.is_some() || now_ns < self.retry_ns {
            return None;
        }
        self.busy = Some(Busy::Back);
        Some(self.held.safe.clone())
    }

    /// When it is to be looked at again.
    pub(super) fn wakes_ns(&self, now_ns: MonoNs) -> MonoNs {
        match () {
            () if self.busy.is_some() => MonoNs::MAX,
            () if self.wants_back => self.retry_ns.max(now_ns),
            () if self.is_safe => MonoNs::MAX,
            () => self.lease_until_ns.max(now_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::act::device::Driver;
    use crate::act::limits::Allowed;
    use wire::id::PartName;

    const S: MonoNs = 1_000_000_000;

    fn post() -> Post {
        let held = Held {
            name: PartName::new("valve").unwrap(),
            driver: Driver::Simulated { file: "valve".into() },
            allowed: Allowed::Words(vec!["open".into(), "closed".into()]),
            safe: word("closed"),
            lease_ms: 10_000,
            confirm: true,
            settle_ms: 0,
            tolerance: 0.0,
        };
        Post::new(held, 0)
    }

    fn word(text: &str) -> Setting {
        Setting::Word(text.into())
    }

    fn refused(todo: Todo) -> String {
        match todo {
            Todo::Say(Said::Set { failed: Some(failed), .. }) => failed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_safe_setting_comes_first() {
        let mut post = post();
        assert!(refused(post.order(1, word("open"))).contains("safe setting first"));
        assert_eq!(post.order(2, word("closed")), Todo::Set(word("closed")));
        assert!(refused(post.order(3, word("closed"))).contains("busy"));
        // It says something else: it is not safe, and nothing else is taken.
        assert_eq!(post.did(Ok(Some(word("open"))), 1, S).len(), 1);
        assert!(refused(post.order(4, word("open"))).contains("safe setting first"));
        post.order(5, word("closed"));
        post.did(Ok(Some(word("closed"))), 1, S);
        assert!(refused(post.order(6, word("ajar"))).contains("not among"));
        assert_eq!(post.order(7, word("open")), Todo::Set(word("open")));
    }

    #[test]
    fn a_lease_that_runs_out() {
        let mut post = post();
        post.order(1, word("closed"));
        post.did(Ok(Some(word("closed"))), 1, S);
        assert_eq!(post.due(60 * S), None, "what is safe needs nobody");
        post.alive(60 * S);
        post.order(2, word("open"));
        post.did(Ok(Some(word("open"))), 1, 60 * S);
        assert_eq!(post.due(69 * S), None);
        assert_eq!(post.wakes_ns(69 * S), 70 * S);
        assert_eq!(post.due(70 * S), Some(word("closed")));
        assert!(refused(post.order(3, word("open"))).contains("bringing it back"));
        // It fails; it is tried again, and the node is told once.
        assert_eq!(post.did(Err("no".into()), 1, 70 * S).len(), 1);
        assert_eq!(post.due(70 * S), None);
        assert_eq!(post.due(71 * S), Some(word("closed")));
        assert_eq!(post.did(Ok(Some(word("closed"))), 1, 71 * S), []);
        // What was ordered before the node fell silent must not come true now.
        post.alive(72 * S);
        assert!(refused(post.order(4, word("open"))).contains("safe setting first"));
        assert_eq!(post.order(5, word("closed")), Todo::Set(word("closed")));
    }

    #[test]
    fn a_line_that_breaks() {
        let mut post = post();
        post.order(1, word("closed"));
        post.did(Ok(Some(word("closed"))), 1, S);
        post.lost("the broker is gone");
        assert_eq!(post.due(2 * S), None, "what is safe stays so");
        post.alive(S);
        post.order(2, word("open"));
        post.did(Ok(Some(word("open"))), 1, 2 * S);
        post.lost("the broker is gone");
        assert_eq!(post.due(2 * S), Some(word("closed")));
        let said = post.did(Ok(Some(word("closed"))), 1, 2 * S);
        assert!(
            matches!(&said[..], [Said::Lapsed { why, .. }] if why.contains("broker is gone")),
            "{said:?}"
        );
        assert!(refused(post.order(3, word("open"))).contains("safe setting first"));
    }

    #[test]
    fn the_end_waits_for_what_is_under_way() {
        let mut post = post();
        post.order(1, word("closed"));
        post.did(Ok(None), 1, S);
        post.order(2, word("open"));
        post.bring_back();
        assert_eq!(post.due(S), None);
        assert!(!post.is_back());
        post.did(Ok(None), 1, 2 * S);
        assert_eq!(post.due(2 * S), Some(word("closed")));
        assert!(!post.is_back());
        post.did(Ok(None), 1, 2 * S);
        assert!(post.is_back());
    }
}
