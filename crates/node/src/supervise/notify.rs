//! Tells the service manager how the node is: sd_notify(3), a datagram at the socket that `NOTIFY_SOCKET` names.
//!
//! Nothing depends on it: where nobody listens, nothing is told.

use std::time::Duration;

/// What the manager has said of itself, by its variables in the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotifySettings {
    /// Where it listens: a path, or `@` and an abstract name.
    pub socket: Option<String>,
    /// It ends a process that has not said for so long that it gets somewhere.
    pub watchdog: Option<Duration>,
}

impl NotifySettings {
    /// As `get` tells the variables; `own_pid`: this process. A variable that is meant for another process is not for us.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>, own_pid: u32) -> NotifySettings {
        let socket = get("NOTIFY_SOCKET").filter(|socket| socket.starts_with(['/', '@']));
        let is_ours = get("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(own_pid));
        let micros = get("WATCHDOG_USEC").filter(|_| is_ours).and_then(|micros| micros.parse().ok());
        let watchdog = micros.filter(|micros| *micros > 0).map(Duration::from_micros);
        NotifySettings { socket, watchdog }
    }

    /// How often it should hear: half of its patience, and every ten seconds at least.
    pub fn every(&self) -> Option<Duration> {
        let watchdog = self.watchdog.filter(|_| self.socket.is_some())?;
        Some((watchdog / 2).min(Duration::from_secs(10)))
    }
}

/// The way to the manager.
#[derive(Debug)]
pub struct Notifier {
    #[cfg(unix)]
    to: Option<(std::os::unix::net::UnixDatagram, std::os::unix::net::SocketAddr)>,
}

impl Notifier {
    /// To this manager; to nobody, if it does not listen.
    #[cfg(unix)]
    pub fn to(manager: &NotifySettings) -> Notifier {
        let to = manager.socket.as_deref().and_then(|socket| {
            let opened = address(socket).and_then(|to| Ok((open()?, to)));
            opened
                .inspect_err(|error| tracing::warn!(%error, "the service manager is not told anything"))
                .ok()
        });
        Notifier { to }
    }

    /// To nobody: this system has no such manager.
    #[cfg(not(unix))]
    pub fn to(_manager: &NotifySettings) -> Notifier {
        Notifier {}
    }

    /// It runs.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// It gets somewhere.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// It ends, because it was told to.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// How it is, in a line for people.
    pub fn status(&self, line: &str) {
        let line: String =
            line.chars().map(|sign| if sign.is_control() { ' ' } else { sign }).take(200).collect();
        self.tell(&format!("STATUS={line}"));
    }

    #[cfg(unix)]
    fn tell(&self, words: &str) {
        if let Some((socket, to)) = &self.to {
            // A manager that does not take it now hears the next one.
            let _ = socket.send_to_addr(words.as_bytes(), to);
        }
    }

    #[cfg(not(unix))]
    fn tell(&self, _words: &str) {}
}

#[cfg(unix)]
fn open() -> std::io::Result<std::os::unix::net::UnixDatagram> {
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(unix)]
fn address(socket: &str) -> std::io::Result<std::os::unix::net::SocketAddr> {
    use std::os::unix::net::SocketAddr;
    #[cfg(target_os = "linux")]
    if let Some(name) = socket.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt as _;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_are_not_for_us_say_nothing() {
        let manager = |variables: &[(&str, &str)]| {
            let get = |name: &str| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            };
            let manager = NotifySettings::from_variables(get, 7);
            (manager.socket.clone(), manager.every())
        };
        assert_eq!(manager(&[]), (None, None));
        let socket = ("NOTIFY_SOCKET", "/run/n");
        let some = Some("/run/n".to_owned());
        let half = |micros: u64| Some(Duration::from_micros(micros / 2));
        assert_eq!(manager(&[socket]), (some.clone(), None));
        assert_eq!(manager(&[socket, ("WATCHDOG_USEC", "4000000")]), (some.clone(), half(4_000_000)));
        let ours = [socket, ("WATCHDOG_USEC", "90000000"), ("WATCHDOG_PID", "7")];
        assert_eq!(manager(&ours), (some.clone(), half(20_000_000)), "every ten seconds at least");
        let others = [socket, ("WATCHDOG_USEC", "90000000"), ("WATCHDOG_PID", "8")];
        assert_eq!(manager(&others), (some.clone(), None));
        assert_eq!(manager(&[socket, ("WATCHDOG_USEC", "soon")]), (some, None));
        assert_eq!(manager(&[("NOTIFY_SOCKET", "vsock:2:1")]), (None, None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_manager_hears_at_a_path_and_at_an_abstract_name() {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::net::{SocketAddr, UnixDatagram};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("selvedge-notify-{}", std::process::id());
        let listeners = [
            (UnixDatagram::bind(&path).unwrap(), path.display().to_string()),
            (
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
                format!("@{name}"),
            ),
        ];
        for (listener, socket) in listeners {
            let notifier = Notifier::to(&NotifySettings { socket: Some(socket), watchdog: None });
            notifier.ready();
            notifier.alive();
            notifier.status("two\nlines");
            let mut heard = [0; 64];
            for words in ["READY=1", "WATCHDOG=1", "STATUS=two lines"] {
                let length = listener.recv(&mut heard).unwrap();
                assert_eq!(&heard[..length], words.as_bytes());
            }
        }
        // Nobody listens: nothing happens.
        Notifier::to(&NotifySettings { socket: Some("/nowhere/notify".to_owned()), watchdog: None }).ready();
        Notifier::to(&NotifySettings::default()).ready();
    }
}
