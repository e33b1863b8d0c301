//! The broker and the node, as processes that can be stopped, killed and started again.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A mosquitto that keeps what it holds over a restart.
pub(crate) struct Mosquitto {
    config: PathBuf,
    port: u16,
    child: Child,
    /// Of its lives before.
    spent_s: f64,
}

impl Mosquitto {
    pub(crate) fn start(dir: &Path) -> Mosquitto {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (config, kept) = (dir.join("mosquitto.conf"), dir.join("mosquitto"));
        fs::create_dir(&kept).unwrap();
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 0\nmax_inflight_messages 0\n\
             persistence true\npersistence_location {}/\nautosave_interval 0\n",
            kept.display()
        );
        fs::write(&config, text).unwrap();
        let child = Mosquitto::run(&config, port);
        Mosquitto { config, port, child, spent_s: 0.0 }
    }

    fn run(config: &Path, port: u16) -> Child {
        let mut command = Command::new("/usr/sbin/mosquitto");
        command.arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            pause(Duration::from_millis(20));
        }
        child
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Stops it in order, and starts it.
    pub(crate) fn again(&mut self) -> &'static str {
        self.spent_s = self.cpu_s();
        self.stop();
        self.child = Mosquitto::run(&self.config, self.port);
        "the broker was stopped and started"
    }

    pub(crate) fn stop(&mut self) {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        self.child.wait().unwrap();
    }

    /// In all its lives.
    pub(crate) fn cpu_s(&self) -> f64 {
        self.spent_s + cpu_s(&self.child.id().to_string())
    }
}

/// This program once more, as a node.
pub(crate) struct NodeProcess {
    dir: PathBuf,
    child: Option<Child>,
    /// Of its lives before.
    spent_s: f64,
    peak_mib: u64,
}

impl NodeProcess {
    /// Writes its settings and its flow.
    pub(crate) fn prepare(dir: &Path, port: u16) -> NodeProcess {
        fs::write(
            dir.join("node.toml"),
            "[node]\nname = \"load\"\n[journal]\nmin_free_bytes = \"0\"\nmax_bytes = \"16GiB\"\n",
        )
        .unwrap();
        fs::write(
            dir.join("flow.toml"),
            format!(
                "[source.plant]\ntype = \"mqtt\"\nbroker = \"mqtt://127.0.0.1:{port}\"\ntopics = [\"plant/#\"]\n\
                 values = {{ n = \"n\", p = \"p\", t = \"t\" }}\ntime = \"ts\"\n\
                 [model.health]\ntype = \"subspace\"\ninputs = [\"source.plant\"]\n\
                 [rule.turn]\ninputs = [\"source.plant\"]\nwhen = \"plant.t > 0.5\"\n"
            ),
        )
        .unwrap();
        NodeProcess { dir: dir.to_owned(), child: None, spent_s: 0.0, peak_mib: 0 }
    }

    pub(crate) fn start(&mut self) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--node").arg(&self.dir).stdin(Stdio::piped());
        self.child = Some(command.spawn().unwrap());
    }

    /// Stops it in order, and starts it.
    pub(crate) fn again(&mut self) -> &'static str {
        self.stop();
        self.start();
        "the node was stopped and started"
    }

    /// Kills it, and starts it.
    pub(crate) fn killed(&mut self) -> &'static str {
        self.note();
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        self.start();
        "the node was killed and started"
    }

    pub(crate) fn stop(&mut self) {
        self.note();
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            assert!(child.wait().unwrap().success(), "it stops in order");
        }
    }

    fn note(&mut self) {
        (self.spent_s, self.peak_mib) = (self.cpu_s(), self.peak_mib());
    }

    /// In all its lives.
    pub(crate) fn cpu_s(&self) -> f64 {
        self.spent_s + self.child.as_ref().map_or(0.0, |child| cpu_s(&child.id().to_string()))
    }

    /// The most that it has had in memory, in any life.
    pub(crate) fn peak_mib(&self) -> u64 {
        let peak = |child: &Child| {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        self.peak_mib.max(self.child.as_ref().and_then(peak).unwrap_or(0) >> 10)
    }
}

/// What a process, or this thread, has used, in seconds.
pub(crate) fn cpu_s(of: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{of}/stat")).unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks =
        |at: usize| after.split_whitespace().nth(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Waits.
pub(crate) fn pause(pause: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::sleep(pause).await });
}
