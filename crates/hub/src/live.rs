//! What is happening now, to everybody who looks: one bounded ring of events, read by any number of followers.
//!
//! A follower that is too slow misses events and is told how many; it can never slow the writer or use its memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::broadcast;

/// How many events the ring holds.
const RING: usize = 1024;

/// The largest event, in bytes, so that the ring stays below 16 MiB. What is larger is announced without its body.
pub const EVENT_MAX_BYTES: usize = 16 * 1024;

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// On which node.
    pub node: Arc<str>,
    /// What: `summary`, `inference`, `decision`, `source`, or `node` for a change of the node itself.
    pub name: &'static str,
    /// The details, one line of JSON.
    pub data: Arc<str>,
}

/// The ring, and how many follow it.
#[derive(Debug)]
pub struct Live {
    ring: broadcast::Sender<Event>,
    followers: AtomicUsize,
    followers_max: usize,
}

impl Live {
    /// An empty ring for at most so many followers.
    pub fn new(followers_max: usize) -> Arc<Live> {
        Arc::new(Live { ring: broadcast::Sender::new(RING), followers: AtomicUsize::new(0), followers_max })
    }

    /// Tells everybody who follows now.
    pub fn tell(&self, event: Event) {
        // Nobody follows: nobody is told.
        let _ = self.ring.send(event);
    }

    /// True if telling would reach anybody, so that an event is worth making.
    pub fn is_followed(&self) -> bool {
        self.ring.receiver_count() > 0
    }

    /// How many follow.
    pub fn followers(&self) -> usize {
        self.followers.load(Relaxed)
    }

    /// Begins to follow, one node or all; `None` if there are too many followers.
    pub fn follow(self: &Arc<Live>, node: Option<&str>) -> Option<Follower> {
        let max = self.followers_max;
        let one_more = |count: usize| (count < max).then_some(count + 1);
        self.followers.fetch_update(Relaxed, Relaxed, one_more).ok()?;
        Some(Follower { live: self.clone(), ring: self.ring.subscribe(), node: node.map(Into::into) })
    }
}

/// Somebody who looks.
#[derive(Debug)]
pub struct Follower {
    live: Arc<Live>,
    ring: broadcast::Receiver<Event>,
    node: Option<Arc<str>>,
}

/// What a follower gets.
#[derive(Debug)]
pub enum Heard {
    /// Something happened.
    Event(Event),
    /// So many events were missed.
    Lagged(u64),
}

impl Follower {
    /// Waits for the next event; `None` when the hub stops.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            match self.ring.recv().await {
                Ok(event) if self.node.as_ref().is_none_or(|node| *node == event.node) => {
                    return Some(Heard::Event(event));
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(missed)) => return Some(Heard::Lagged(missed)),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.live.followers.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(node: &str, n: usize) -> Event {
        Event { node: node.into(), name: "summary", data: n.to_string().into() }
    }

    #[tokio::test]
    async fn a_follower_of_one_node_hears_of_that_node() {
        let live = Live::new(2);
        let mut follower = live.follow(Some("a")).unwrap();
        live.tell(event("b", 1));
        live.tell(event("a", 2));
        assert!(matches!(follower.next().await, Some(Heard::Event(event)) if &*event.data == "2"));
    }

    #[tokio::test]
    async fn a_slow_follower_is_told_what_it_missed() {
        let live = Live::new(1);
        let mut follower = live.follow(None).unwrap();
        for n in 0..RING + 10 {
            live.tell(event("a", n));
        }
        assert!(matches!(follower.next().await, Some(Heard::Lagged(10))));
        assert!(matches!(follower.next().await, Some(Heard::Event(event)) if &*event.data == "10"));
    }

    #[test]
    fn there_is_an_end_to_followers() {
        let live = Live::new(1);
        let first = live.follow(None);
        assert!(first.is_some() && live.follow(None).is_none());
        drop(first);
        assert!(live.follow(None).is_some());
    }
}
