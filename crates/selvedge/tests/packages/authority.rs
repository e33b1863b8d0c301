//! A hub whose certificate an authority of its own vouches for: after `selvedge login --ca` every verb believes it, and none
//! before.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hub::config::HubConfig;
use hub::config::people::TlsConfig;
use hub::server::{Hub, Running};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::runtime::Runtime;
use wire::world::System;

use crate::stage::{Ran, Stage};

const TOKEN: &str = "0123456789abcdef";

/// What `audit ls` ends with.
const LISTED: &str = "nobody has checked this";

impl Ran {
    /// Whether the hub let it in: it did what it does, or there was nothing to show yet.
    fn is_let_in(&self, expected: &str) -> bool {
        let is_early = expected == LISTED && self.err.contains("has no checkpoint");
        is_early || self.code == Some(0) && self.out.contains(expected)
    }
}

/// A stage with a sealed package and a repository that approves it, and a hub with TLS.
struct Company {
    stage: Stage,
    hub: Option<Running>,
    runtime: Runtime,
    url: String,
}

impl Company {
    fn new() -> Company {
        let stage = Stage::packed();
        stage.run(&["trust", "init", "repo", "--keys", "keys", "--work", "4"]).ok();
        stage.trust(&["add", "repo", "tiny"], &["targets", "snapshot", "timestamp"]).ok();
        stage.write("token", TOKEN);
        let tls = certified(&stage);
        let config = HubConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            data: stage.path("hub"),
            token_file: Some(stage.path("token")),
            tls: Some(tls),
            ..HubConfig::default()
        };
        let runtime = Runtime::new().unwrap();
        let hub = runtime.block_on(Hub::start(config, System::new())).unwrap();
        let url = hub.url();
        assert!(url.starts_with("https://127.0.0.1:"), "{url}");
        Company { stage, hub: Some(hub), runtime, url }
    }

    /// A verb, by the login alone if there is one.
    fn say(&self, words: &[&str]) -> Ran {
        let mut command = self.stage.command(words);
        command.env("XDG_CONFIG_HOME", self.stage.path("config"));
        command.env_remove("SELVEDGE_HUB").env_remove("SELVEDGE_TOKEN_FILE");
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Drop for Company {
    fn drop(&mut self) {
        self.runtime.block_on(self.hub.take().unwrap().stop());
    }
}

/// An authority in `ca.pem`, and a certificate of it for this machine.
fn certified(stage: &Stage) -> TlsConfig {
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "an authority of our own");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = ca.self_signed(&ca_key).unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let files = TlsConfig { cert: stage.path("hub.pem"), key: stage.path("hub.key") };
    for (name, label, der) in [
        ("ca.pem", "CERTIFICATE", &root.der()[..]),
        ("hub.pem", "CERTIFICATE", &leaf.der()[..]),
        ("hub.key", "PRIVATE KEY", key.serialized_der()),
    ] {
        let lines = BASE64_STANDARD.encode(der);
        let lines: Vec<&str> =
            lines.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        stage.write(name, &format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n")));
    }
    files
}

#[test]
fn every_verb_believes_the_authority_of_the_login() {
    let company = Company::new();
    let stage = &company.stage;
    stage.run(&["trust", "key", "node", "a"]).ok();
    stage.run(&["trust", "key", "new", "seal.age", "--kind", "content", "--work", "4"]).ok();
    let sealed = ["pack", "full.gguf", "--model", "shut", "--release", "1", "-o", "shut"];
    let sealing = ["--seal-to", "a/keys/node.pub.json", "--seal-key", "seal.age"];
    stage.run(&[&sealed[..], &sealing].concat()).ok();
    stage.run(&["trust", "key", "node", "b"]).ok();

    let repository = format!("{}/tuf/metadata", company.url);
    let grant = ["grant", "shut", "--to", "b/keys/node.pub.json", "--key", "seal.age", "-o", "hub:"];
    let verify = ["verify", "tiny", "--root", "repo/metadata/1.root.json", "--repository", &repository];
    // Each, and what it says when all is well.
    let verbs: [(&[&str], &str); 8] = [
        (&["push", "tiny", "hub:tiny"], "pushed "),
        (&["push", "shut", "hub:shut"], "1 grant for sealed weights went with it"),
        (&grant, "1 grant at the hub 127.0.0.1:"),
        (&["trust", "push", "repo"], "sent "),
        (&["inspect", "hub:tiny"], "tiny release 7"),
        (&["pull", "hub:tiny", "--to", "came"], "pulled tiny:7 into came"),
        (&verify, "tiny:7 is approved"),
        (&["audit", "ls"], LISTED),
    ];
    // An address alone is not enough: nobody whom the system knows vouches for this hub.
    for (words, _) in verbs {
        let named: &[&str] = if words[0] == "verify" { &[] } else { &["--hub", company.url.as_str()] };
        let refused = company.say(&[words, named, &["--token-file", "token"]].concat());
        let Ran { code, out, err } = &refused;
        assert!(*code == Some(1) && !refused.is_let_in(LISTED), "{words:?}: {out}{err}");
    }
    let token = ["--hub", company.url.as_str(), "--token-file", "token"];
    let by_file = company.say(&[&["audit", "ls"][..], &token, &["--ca", "ca.pem"]].concat());
    assert!(by_file.is_let_in(LISTED), "{}{}", by_file.out, by_file.err);

    company.say(&[&["login"][..], &token, &["--ca", "ca.pem"]].concat()).ok();
    for (words, expected) in verbs {
        let told = company.say(words);
        assert!(told.is_let_in(expected), "{words:?}: {}{}", told.out, told.err);
    }
    // What does not hold stays untold to a hub that is another.
    let elsewhere = company.say(&["audit", "ls", "--hub", "https://127.0.0.1:1"]);
    assert!(elsewhere.code == Some(1) && elsewhere.err.contains("127.0.0.1:1"), "{}", elsewhere.err);
}
