//! A mosquitto of our own, on a free port, with or without TLS; it can be stopped and started again.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use node::mqtt::broker::{Broker, Tls, Version};
use node::mqtt::{Event, Link, Session};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::stand::{free_port, until};

/// A broker.
pub(crate) struct Mosquitto {
    program: PathBuf,
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
    sealed: bool,
    child: Option<Child>,
}

/// Starts one; `None`, and a word, where there is no mosquitto.
pub(crate) fn mosquitto(sealed: bool) -> Option<Mosquitto> {
    let places = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"];
    let Some(program) = places.iter().map(Path::new).find(|path| path.exists()) else {
        eprintln!("skipped: there is no mosquitto on this machine");
        return None;
    };
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut conf = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
         max_queued_messages 0\nlog_dest stderr\n",
        dir.path().display()
    );
    if is_root() {
        // As root it would become a user who may not write here.
        conf.push_str("user root\n");
    }
    if sealed {
        certificates(dir.path());
        let file = |name: &str| dir.path().join(name).display().to_string();
        conf.push_str(&format!(
            "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
            file("ca.pem"),
            file("server.pem"),
            file("server.key")
        ));
    }
    fs::write(dir.path().join("mosquitto.conf"), conf).unwrap();
    let mut broker = Mosquitto { program: program.to_path_buf(), dir, port, sealed, child: None };
    broker.start();
    Some(broker)
}

fn is_root() -> bool {
    // The owner of our own process's folder.
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

impl Mosquitto {
    /// Starts it, and waits until it listens.
    pub(crate) fn start(&mut self) {
        let log = File::options().append(true).create(true).open(self.dir.path().join("log")).unwrap();
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(self.dir.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        until("the broker", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    /// Stops it as an operator does; it keeps its sessions.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
            assert!(killed.success());
            child.wait().unwrap();
        }
    }

    /// As the node's settings have it.
    pub(crate) fn broker(&self, version: Version) -> Broker {
        let file = |name: &str| self.dir.path().join(name);
        let tls = self
            .sealed
            .then(|| Tls { ca_file: Some(file("ca.pem")), own: Some((file("node.pem"), file("node.key"))) });
        Broker {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            version,
            tls,
            user: None,
            password_file: None,
        }
    }

    /// Publishes all of them at QoS 1 and waits until the broker has them, however often it goes away; some may get there twice.
    pub(crate) fn publish(&self, version: Version, messages: &[(String, String)]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut done = 0;
            'again: while done < messages.len() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let link = Link::open(&self.broker(version), "publisher", Session::Clean, None);
                let mut link = link.unwrap();
                loop {
                    match link.next().await {
                        Ok(Event::Connected { .. }) => break,
                        Ok(_) => {}
                        Err(_) => continue 'again,
                    }
                }
                for chunk in messages[done..].chunks(50) {
                    let mut sent = Vec::new();
                    for (topic, payload) in chunk {
                        sent.push(
                            link.publish(topic.clone(), payload.clone().into_bytes(), false).await.unwrap(),
                        );
                    }
                    let mut taken = std::pin::pin!(async {
                        for sent in sent {
                            sent.taken().await?;
                        }
                        Ok::<(), String>(())
                    });
                    loop {
                        tokio::select! {
                            taken = &mut taken => match taken {
                                Ok(()) => break,
                                Err(_) => continue 'again,
                            },
                            event = link.next() => if event.is_err() {
                                continue 'again;
                            },
                        }
                    }
                    done += chunk.len();
                }
                link.leave().unwrap();
                let _ = tokio::time::timeout(Duration::from_secs(1), async {
                    while link.next().await.is_ok() {}
                })
                .await;
            }
        });
    }

    /// Listens to everything, retained messages too, and gives what came until `enough` says so.
    pub(crate) fn listen(
        &self,
        filter: &str,
        mut enough: impl FnMut(&[(String, String)]) -> bool,
    ) -> Vec<(String, String)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let broker = self.broker(Version::V5);
            let id = format!("listener-{}", free_port());
            let mut link = Link::open(&broker, &id, Session::Clean, None).unwrap();
            let mut came = Vec::new();
            let all = async {
                while !enough(&came) {
                    match link.next().await.unwrap() {
                        Event::Connected { .. } => link.subscribe(&[filter.to_owned()], 0).unwrap(),
                        Event::Message(message) => {
                            let payload = String::from_utf8(message.payload.to_vec()).unwrap();
                            came.push((message.topic, payload));
                        }
                        _ => {}
                    }
                }
            };
            let ended = tokio::time::timeout(Duration::from_secs(60), all).await;
            assert!(ended.is_ok(), "only this came: {came:#?}");
            came
        })
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An authority, a server of 127.0.0.1, a node, and another authority that nobody believes.
fn certificates(dir: &Path) {
    let authority = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        fs::write(dir.join(format!("{name}.pem")), pem("CERTIFICATE", certificate.der())).unwrap();
        Issuer::new(params, key)
    };
    let ca = authority("ca");
    authority("stranger");
    for (name, usage) in
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("node", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &ca).unwrap();
        fs::write(dir.join(format!("{name}.pem")), pem("CERTIFICATE", certificate.der())).unwrap();
        fs::write(dir.join(format!("{name}.key")), pem("PRIVATE KEY", &key.serialize_der())).unwrap();
    }
}

/// As files hold certificates and keys (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
