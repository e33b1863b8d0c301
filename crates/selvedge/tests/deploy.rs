//! What `deploy/` says is true of this program: its settings are read by our own readers, its units by systemd's.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends where something is not as it should be"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use hub::config::HubConfig;
use hub::config::people::OidcConfig;
use node::config::Config;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

#[test]
fn the_settings_of_replicas_are_ours() {
    let text = std::fs::read_to_string(deploy().join("hub.toml")).unwrap();
    let config = HubConfig::parse(&text).unwrap();
    config.check().unwrap();
    assert!(config.tls.is_some() && config.nodes.is_some() && config.identity.keys.is_some());
    // What stands there behind `#` is meant to be taken in as it is.
    let whole: String = text.lines().map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
    let at = whole.find("[oidc]").unwrap();
    let config = HubConfig::parse(&format!("{}{}", &text[..text.find("# [oidc]").unwrap()], &whole[at..]));
    let config = config.unwrap();
    assert_eq!(config.oidc.as_ref().and_then(OidcConfig::problem).filter(|_| cfg!(feature = "oidc")), None);

    // The compose file names these settings and this folder of keys, and ports at which the balancer asks.
    let compose = std::fs::read_to_string(deploy().join("compose.yaml")).unwrap();
    let named = compose.split_whitespace().filter_map(|word| word.strip_prefix("./"));
    let named: Vec<&str> = named.filter(|file| !file.starts_with("secrets/")).collect();
    assert_eq!(named, ["hub.toml", "haproxy.cfg"]);
    let keys = config.identity.keys.as_ref().unwrap().display().to_string();
    assert_eq!(compose.matches(&format!("keys:{keys}\"")).count(), 2, "both replicas have {keys}");
    assert_eq!(compose.matches(&format!(":{}\"]", config.data.display())).count(), 2);
    let balancer = std::fs::read_to_string(deploy().join("haproxy.cfg")).unwrap();
    let nodes = config.nodes.as_ref().unwrap();
    for port in [config.listen.port(), nodes.listen.port()] {
        assert!(balancer.contains(&format!("hub-2:{port} ")), "{port}");
        assert!(compose.contains(&format!("\"{port}:{port}\"")), "{port}");
    }
    assert!(balancer.contains("mode tcp") && !balancer.contains("mode http"), "TLS ends at a hub");
    let s3 = config.depot.s3.unwrap();
    assert!(compose.contains(&format!("--bucket {}", s3.bucket)));
    for secret in ["/run/secrets/hub.pem", "/run/secrets/hub.key", "/run/secrets/s3-credentials"] {
        let name = secret.rsplit('/').next().unwrap();
        assert!(text.contains(secret) && compose.contains(&format!("{name}: {{ file: ./secrets/{name} }}")));
    }
    let readme = std::fs::read_to_string(deploy().join("README.md")).unwrap();
    for line in compose.lines().filter_map(|line| line.trim().split_once(": { file: ./secrets/")) {
        assert!(readme.contains(&format!("`{}`", line.0)), "{} is explained", line.0);
    }
}

#[test]
fn a_gateway_s_settings_are_ours() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(deploy().join("node.toml")).unwrap();
    let text = text.replace("/etc/selvedge/flow.toml", "flow.toml");
    std::fs::write(folder.path().join("node.toml"), text).unwrap();
    let flow = "[source.pump]\ntype = \"simulated\"\nseed = 1\nrate_hz = 5.0\nhistory = \"2m\"\n\n\
         [rule.hot]\ninputs = [\"source.pump\"]\nwhen = \"pump.temperature_c > -40.0\"\n";
    std::fs::write(folder.path().join("flow.toml"), flow).unwrap();
    let config = Config::load(&folder.path().join("node.toml")).unwrap();
    assert!(config.hub.unwrap().enrol.is_some());
}

#[test]
fn systemd_reads_the_units_and_finds_little_that_is_exposed() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: systemd-analyze is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["selvedge-hub.service", "selvedge-node.service"] {
        let text = std::fs::read_to_string(deploy().join("systemd").join(name)).unwrap();
        // Installed nowhere here: the program under test stands for it.
        let text = text.replace("/usr/bin/selvedge", env!("CARGO_BIN_EXE_selvedge"));
        let unit = folder.path().join(name);
        std::fs::write(&unit, text).unwrap();
        let said = |args: &[&str]| {
            let done = Command::new("systemd-analyze").args(args).arg(&unit).output().unwrap();
            let text = [done.stdout, done.stderr].concat();
            (done.status.success(), String::from_utf8_lossy(&text).into_owned())
        };
        let (good, text) = said(&["verify", "--man=no", "--recursive-errors=no"]);
        assert!(good && !text.contains(name), "{text}");
        let (good, text) = said(&["security", "--offline=true", "--threshold=20", "--no-pager"]);
        assert!(good, "more exposed than 2.0 of 10:\n{text}");
        // The verb that the unit names is one, with these options.
        let unit = std::fs::read_to_string(&unit).unwrap();
        let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let mut words = line.split(' ');
        let help =
            Command::new(words.next().unwrap()).args([words.next().unwrap(), "--help"]).output().unwrap();
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        assert!(
            words.filter(|word| word.starts_with("--")).all(|option| help.contains(option)),
            "{line}\n{help}"
        );
    }
}
