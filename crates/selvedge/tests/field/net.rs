//! Network namespaces: a hub, a relay, and nodes behind it, joined by cables of our own. Nothing outside them is touched, and all of
//! it goes when it is dropped.
//!
//! ```text
//! hub 10.77.0.2 ──── 10.77.0.1 relay 10.77.N.1 ──── 10.77.N.2 node N
//! ```

use std::process::{Command, Output, Stdio};

/// How many nodes there are.
pub(crate) const NODES: usize = 3;

/// The house of cables.
pub(crate) struct Net {
    /// Differs in every run, so that two do not meet.
    tag: String,
}

/// Why there is none.
pub(crate) struct Missing(pub(crate) String);

fn ip(words: &[&str]) -> Result<(), Missing> {
    let ran = Command::new("ip").args(words).stdin(Stdio::null()).output();
    match ran {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(Output { stderr, .. }) => {
            Err(Missing(format!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&stderr).trim())))
        }
        Err(error) => Err(Missing(format!("ip: {error}"))),
    }
}

impl Net {
    /// Lays the cables.
    pub(crate) fn new() -> Result<Net, Missing> {
        let net = Net { tag: format!("sv{}", std::process::id()) };
        for room in
            ["hub".to_owned(), "relay".to_owned()].into_iter().chain((1..=NODES).map(|n| format!("n{n}")))
        {
            ip(&["netns", "add", &net.room(&room)])?;
            net.within(&room, &["link", "set", "lo", "up"])?;
        }
        net.cable("hub", 0)?;
        for node in 1..=NODES {
            net.cable(&format!("n{node}"), node)?;
        }
        Ok(net)
    }

    /// From the relay's `c<number>` to a room's `end`.
    fn cable(&self, room: &str, number: usize) -> Result<(), Missing> {
        let end = format!("c{number}");
        let (from, to) = (self.room("relay"), self.room(room));
        ip(&["-n", &from, "link", "add", &end, "type", "veth", "peer", "name", "end", "netns", &to])?;
        self.within("relay", &["addr", "add", &format!("10.77.{number}.1/24"), "dev", &end])?;
        self.within(room, &["addr", "add", &format!("10.77.{number}.2/24"), "dev", "end"])?;
        self.within("relay", &["link", "set", &end, "up"])?;
        self.within(room, &["link", "set", "end", "up"])
    }

    fn within(&self, room: &str, words: &[&str]) -> Result<(), Missing> {
        ip(&[&["-n", &self.room(room)], words].concat())
    }

    /// The name of a room's namespace.
    pub(crate) fn room(&self, room: &str) -> String {
        format!("{}-{room}", self.tag)
    }

    /// A program in a room. It is the process itself, and no shell around it.
    pub(crate) fn command(&self, room: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.room(room), program]);
        command
    }

    /// A program in a room, run to its end; whether it ended well.
    fn runs(&self, room: &str, words: &[&str]) -> bool {
        let mut command = self.command(room, words[0]);
        let command =
            command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Loses packets between the relay and all others, and delays, doubles and reorders them where the kernel can. In words, what
    /// of it there is.
    pub(crate) fn disturb(&self) -> &'static str {
        let ends = || (0..=NODES).map(|number| format!("c{number}"));
        let emulates = |end: &String| {
            let words = ["tc", "qdisc", "add", "dev", end, "root", "netem", "delay", "20ms", "15ms"];
            let more = ["loss", "2%", "duplicate", "2%", "reorder", "20%"];
            self.runs("relay", &[&words[..], &more[..]].concat())
        };
        if ends().all(|end| emulates(&end)) {
            return "netem: packets come late, twice, in another order, or not";
        }
        let loses = |end: &String| {
            let words = ["iptables", "-A", "INPUT", "-i", end, "-m", "statistic", "--mode", "random"];
            self.runs("relay", &[&words[..], &["--probability", "0.03", "-j", "DROP"]].concat())
        };
        match ends().all(|end| loses(&end)) {
            true => "no netem here: 3 % of packets are lost, and come again in another order",
            false => "neither netem nor iptables here: the relay alone disturbs",
        }
    }

    /// Pulls or plugs the cables of all nodes. Nobody is told: packets vanish.
    pub(crate) fn plug(&self, is_in: bool) {
        for node in 1..=NODES {
            let word = if is_in { "up" } else { "down" };
            let done = self.within("relay", &["link", "set", &format!("c{node}"), word]);
            assert!(done.is_ok(), "the cable of node {node}");
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for room in
            ["hub".to_owned(), "relay".to_owned()].into_iter().chain((1..=NODES).map(|n| format!("n{n}")))
        {
            // One that was never made is gone already.
            let _ = ip(&["netns", "del", &self.room(&room)]);
        }
    }
}
