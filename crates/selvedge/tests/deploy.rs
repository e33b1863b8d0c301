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

/// A root without a system, for what fills one.
fn empty_root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for folder in ["etc", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"] {
        std::fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    for file in ["status", "available"] {
        std::fs::write(root.path().join("var/lib/dpkg").join(file), "").unwrap();
    }
    std::fs::write(root.path().join("etc/hostname"), "gateway-7\n").unwrap();
    root
}

/// Whether this test can fill a root: users and owners need root, and systemd's tools make them.
fn can_fill() -> bool {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|done| done.stdout == b"0\n");
    let has = |program| Command::new(program).arg("--version").output().is_ok();
    is_root && ["systemd-sysusers", "systemctl", "dpkg", "dpkg-deb"].into_iter().all(has)
}

fn done(command: &mut Command) -> String {
    let done = command.output().unwrap();
    let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{command:?}: {text}");
    text
}

#[test]
fn a_debian_package_installs_keeps_what_is_ours_and_goes() {
    if !can_fill() {
        println!("skipped: this needs root, dpkg and systemd's tools");
        return;
    }
    let out = tempfile::tempdir().unwrap();
    // A small program stands for ours, which takes minutes to pack with all that a test build carries.
    let stand_in = out.path().join("selvedge");
    std::fs::copy("/bin/true", &stand_in).unwrap();
    let built = done(Command::new(deploy().join("deb")).arg(&stand_in).arg(out.path()));
    let package = built.trim();
    assert!(package.contains(env!("CARGO_PKG_VERSION")), "{package}");
    let root = empty_root();
    let at = |path: &str| root.path().join(path.trim_start_matches('/'));
    let dpkg = |args: &[&str]| {
        let mut command = Command::new("dpkg");
        command.arg(format!("--root={}", root.path().display()));
        command.args(["--force-script-chrootless", "--force-depends", "--log=/dev/null"]).args(args);
        done(&mut command)
    };
    dpkg(&["-i", package]);
    for path in
        ["/usr/bin/selvedge", "/usr/lib/systemd/system/selvedge-node.service", "/var/lib/selvedge-node"]
    {
        assert!(at(path).exists(), "{path}");
    }
    let enabled = "/etc/systemd/system/multi-user.target.wants/selvedge-node.service";
    assert!(at(enabled).is_symlink());
    let settings = std::fs::read_to_string(at("/etc/selvedge/node.toml")).unwrap();
    assert!(settings.contains("name = \"gateway-7\""), "{settings}");
    // What it wrote is read by our own reader.
    let here = settings.replace("/etc/selvedge/flow.toml", "flow.toml");
    std::fs::write(out.path().join("node.toml"), here).unwrap();
    std::fs::copy(at("/etc/selvedge/flow.toml"), out.path().join("flow.toml")).unwrap();
    Config::load(&out.path().join("node.toml")).unwrap();

    // Installed again, it keeps what was changed; removed, it keeps data; purged, nothing is left.
    std::fs::write(at("/etc/selvedge/node.toml"), format!("{settings}# mine\n")).unwrap();
    std::fs::write(at("/var/lib/selvedge-node/journal.sqlite"), "data").unwrap();
    dpkg(&["-i", package]);
    assert!(std::fs::read_to_string(at("/etc/selvedge/node.toml")).unwrap().ends_with("# mine\n"));
    dpkg(&["-r", "selvedge"]);
    assert!(!at("/usr/bin/selvedge").exists() && !at(enabled).is_symlink());
    assert!(at("/var/lib/selvedge-node/journal.sqlite").exists() && at("/etc/selvedge/node.toml").exists());
    dpkg(&["-P", "selvedge"]);
    assert!(!at("/var/lib/selvedge-node").exists() && !at("/etc/selvedge").exists());
}

#[test]
fn the_program_installs_itself_into_an_image_and_may_do_so_again() {
    if !can_fill() {
        println!("skipped: this needs root, dpkg and systemd's tools");
        return;
    }
    let root = empty_root();
    let at = |path: &str| root.path().join(path.trim_start_matches('/'));
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
        done(command.args(["node", "install", "--yes", "--root"]).arg(root.path()).args(args))
    };
    let shown = run(&["--dry-run", "--name", "pump-7"]);
    assert!(shown.contains("/etc/selvedge/node.toml") && !at("/etc/selvedge").exists(), "{shown}");
    run(&["--name", "pump-7", "--hub", "https://hub.example:8421"]);
    let settings = std::fs::read_to_string(at("/etc/selvedge/node.toml")).unwrap();
    assert!(settings.contains("name = \"pump-7\"") && settings.contains("hub.example"), "{settings}");
    for path in ["/usr/bin/selvedge", "/etc/systemd/system/selvedge-node.service", "/var/lib/selvedge-node"] {
        assert!(at(path).exists(), "{path}");
    }
    std::fs::write(at("/etc/selvedge/node.toml"), format!("{settings}# mine\n")).unwrap();
    let again = run(&["--name", "another"]);
    assert!(again.contains("stays") && !again.contains("written"), "{again}");
    assert!(std::fs::read_to_string(at("/etc/selvedge/node.toml")).unwrap().ends_with("# mine\n"));
    run(&["--remove"]);
    assert!(!at("/usr/bin/selvedge").exists() && at("/etc/selvedge/node.toml").exists());
    run(&["--remove", "--purge"]);
    assert!(!at("/etc/selvedge").exists() && !at("/var/lib/selvedge-node").exists());
}
