//! Two hubs, each a process of its own, and in front of them what shares out connections.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hub::config::HubConfig;
use hub::config::database::DatabaseUrl;
use hub::config::nodes::IdentityConfig;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::borrowed::bucket::Bucket;
use crate::stage::Stage;

/// A hub; killed when it is dropped.
pub(crate) struct Replica {
    name: &'static str,
    child: Option<Child>,
    pub(crate) url: String,
}

/// Both, and the address that nodes and people know.
pub(crate) struct Company {
    pub(crate) hubs: [Replica; 2],
    pub(crate) url: String,
    database: String,
    open: Arc<Mutex<[Option<SocketAddr>; 2]>>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Company {
    pub(crate) fn start(
        stage: &Stage,
        runtime: &Runtime,
        database: &DatabaseUrl,
        bucket: &Bucket,
    ) -> Company {
        let open = Arc::new(Mutex::new([None; 2]));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(share_out(listener, open.clone()));
        let replica = |name| Replica { name, child: None, url: String::new() };
        let hubs = [replica("north"), replica("south")];
        for Replica { name, .. } in &hubs {
            let config = HubConfig {
                listen: "127.0.0.1:0".parse().unwrap(),
                data: stage.path(name),
                check_in_ms: 500,
                depot: bucket.depot("company"),
                identity: IdentityConfig { keys: Some(stage.path("hub-keys")), ..IdentityConfig::default() },
                ..HubConfig::default()
            };
            stage.write(&format!("{name}.toml"), &toml::to_string(&config).unwrap());
        }
        let mut company = Company { hubs, url, database: database.secret().to_owned(), open };
        // At once: both make the tables and the keys.
        company.spawn(stage, 0);
        company.revive(stage, 1);
        company.listen(stage, 0);
        company
    }

    /// Starts a hub, and does not wait.
    pub(crate) fn spawn(&mut self, stage: &Stage, which: usize) {
        let name = self.hubs[which].name;
        let log = std::fs::File::options().create(true).append(true).open(stage.path(&format!("{name}.log")));
        let mut command = stage.command(&["hub", "--config", &format!("{name}.toml")]);
        command.env("SELVEDGE_DATABASE_URL", &self.database).stderr(log.unwrap());
        self.hubs[which].child = Some(command.stdout(Stdio::piped()).spawn().unwrap());
    }

    /// Waits until a hub serves.
    fn listen(&mut self, stage: &Stage, which: usize) {
        let hub = &mut self.hubs[which];
        let mut line = String::new();
        let child = hub.child.as_mut().unwrap();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.split("console ").nth(1).and_then(|rest| rest.split(';').next());
        let log = || std::fs::read_to_string(stage.path(&format!("{}.log", hub.name))).unwrap();
        hub.url = url.unwrap_or_else(|| panic!("{} does not start: {line}{}", hub.name, log())).to_owned();
        let address = hub.url.strip_prefix("http://").unwrap().parse().unwrap();
        self.open.lock().unwrap()[which] = Some(address);
    }

    pub(crate) fn revive(&mut self, stage: &Stage, which: usize) {
        self.spawn(stage, which);
        self.listen(stage, which);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, which: usize) {
        let mut child = self.hubs[which].child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.open.lock().unwrap()[which] = None;
    }

    /// Asks both to end.
    pub(crate) fn stop(mut self) {
        for hub in &mut self.hubs {
            let mut child = hub.child.take().unwrap();
            let asked = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            assert!(asked.unwrap().success() && child.wait().unwrap().success());
        }
    }

    /// What one of them answers.
    pub(crate) fn get(&self, runtime: &Runtime, which: usize, path: &str) -> Value {
        let url = format!("{}{path}", self.hubs[which].url);
        let text = runtime.block_on(async { reqwest::get(url).await.unwrap().text().await.unwrap() });
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// Takes evidence.
    pub(crate) fn export(&self, stage: &Stage, more: &[&str]) {
        let words = ["audit", "export", "--key", "hub-keys/audit.pub", "--hub", &self.url];
        stage.run(&[&words, more].concat()).ok();
    }

    /// Verifies the published log, by either of them, with the key that both have.
    pub(crate) fn audit(&self, stage: &Stage, more: &[&str]) -> Value {
        let words = ["audit", "verify", "--key", "hub-keys/audit.pub", "--hub", &self.url];
        let said = stage.run(&[&words, more].concat()).ok();
        serde_json::from_str(&said).unwrap_or_default()
    }
}

/// Gives each connection to the hub whose turn it is, or to the other if that one is down.
async fn share_out(listener: TcpListener, open: Arc<Mutex<[Option<SocketAddr>; 2]>>) {
    let turn = AtomicUsize::new(0);
    loop {
        let Ok((mut near, _)) = listener.accept().await else { continue };
        let first = turn.fetch_add(1, Ordering::Relaxed);
        let open = open.clone();
        tokio::spawn(async move {
            for which in [first % 2, (first + 1) % 2] {
                let address = open.lock().unwrap()[which];
                let Some(address) = address else { continue };
                if let Ok(mut far) = TcpStream::connect(address).await {
                    // Either end may go away at any time.
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        });
    }
}
