//! python-tuf as an independent author and an independent client, both ways, without a network: repositories are folders.
//! Runs where `SELVEDGE_PYTHON` names a Python with `tuf` and `securesystemslib[crypto]`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "tests, which say what they skip")]

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use package::trust::Policy;
use package::trust::author::{Delegation, Holders, Plan, Repository};
use package::trust::hex::to_hex;
use package::trust::key::KindSet;
use package::trust::metadata::RoleName;
use package::trust::sign::{HybridSigner, Signer};
use package::trust::trusted::Trusted;
use package::trust::update::{Effect, Event, Outcome, Update, UpdateError, Want, step};
use wire::hash::Hash;

/// 2026-01-01T00:00:00Z.
const THEN_MS: i64 = 1_767_225_600_000;
const DAY_MS: i64 = 86_400_000;

/// Runs a script; what it printed, or `None`, and said, where its packages are missing.
fn python(script: &str, arguments: &[&OsStr]) -> Option<String> {
    let python = std::env::var_os("SELVEDGE_PYTHON").unwrap_or_else(|| "python3".into());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    let output = match Command::new(&python).arg(folder.join(script)).args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: trust against python-tuf: {}: {error}", python.display());
            return None;
        }
    };
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(3) {
        println!("skipped: trust against python-tuf: {}", printed.trim());
        return None;
    }
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Some(printed)
}

/// Follows the repository in a folder.
fn follow(trusted: &mut Trusted, kinds: &KindSet, folder: &Path, want: Want, now_ms: i64) -> Outcome {
    let policy = Policy { kinds: kinds.clone(), ..Policy::default() };
    let (mut update, mut effects) = step(Update::new(trusted.clone(), policy), Event::Begin(want), now_ms);
    loop {
        let event = match effects.remove(0) {
            Effect::Done(outcome) => return outcome,
            Effect::Persist(newer) => {
                *trusted = newer;
                Event::Persisted
            }
            Effect::Fetch { file, .. } => match std::fs::read(folder.join(file.as_str())) {
                Ok(bytes) => Event::Got { file, bytes },
                Err(_) => Event::Absent { file },
            },
        };
        (update, effects) = step(update, event, now_ms);
    }
}

#[test]
fn their_repositories_are_followed() {
    for keytype in ["ed25519", "ecdsa"] {
        let folder = tempfile::tempdir().unwrap();
        if python("author.py", &[folder.path().as_os_str(), keytype.as_ref()]).is_none() {
            return;
        }
        let (first, second) = (folder.path().join("1"), folder.path().join("2"));
        let kinds = KindSet::all();
        let root = std::fs::read(first.join("1.root.json")).unwrap();
        let mut trusted = Trusted::of_root(&root, &kinds).unwrap();
        let target = |path: &str| Want::Target(path.to_owned());
        let found = follow(&mut trusted, &kinds, &first, target("models/a/1"), THEN_MS);
        let Outcome::Target(file) = found else { panic!("{keytype}: {found:?}") };
        file.check(b"one").unwrap();
        assert_eq!(follow(&mut trusted, &kinds, &first, target("models/b/2"), THEN_MS), Outcome::NoTarget);

        let found = follow(&mut trusted, &kinds, &second, target("models/b/2"), THEN_MS);
        let Outcome::Target(file) = found else { panic!("{keytype}: {found:?}") };
        file.check(b"two").unwrap();
        assert_eq!(trusted.root.body.head.version, 2);
        assert_eq!(follow(&mut trusted, &kinds, &second, target("models/b/22"), THEN_MS), Outcome::NoTarget);
        let frozen = follow(&mut trusted, &kinds, &second, Want::Refresh, THEN_MS + 200 * DAY_MS);
        assert!(matches!(frozen, Outcome::Failed(UpdateError::Expired { .. })), "{frozen:?}");
        // A node's own policy takes none of their keys.
        assert!(Trusted::of_root(&root, &KindSet::hybrid()).is_err());
    }
}

fn key(seed: u8) -> HybridSigner {
    HybridSigner::from_seed(&[seed; 64]).unwrap()
}

/// A hybrid repository with a delegation and a rotated root, in a folder; made now, since their client asks the clock.
fn ours(folder: &Path, now_ms: i64) {
    let holders = |seeds: &[u8], threshold| Holders {
        keys: seeds.iter().map(|seed| key(*seed).key().clone()).collect(),
        threshold,
        life_ms: 30 * DAY_MS,
    };
    let plan = Plan {
        root: holders(&[1, 2, 3], 2),
        targets: holders(&[4], 1),
        snapshot: holders(&[5], 1),
        timestamp: holders(&[6], 1),
    };
    let mut repository = Repository::init(&plan, now_ms).unwrap();
    let targets = RoleName::targets();
    let team = RoleName::delegated("team a/ü").unwrap();
    let delegation = Delegation {
        name: team.as_str().to_owned(),
        holders: holders(&[7], 1),
        paths: vec!["models/a/*".into()],
        terminating: false,
    };
    repository.delegate(&targets, &delegation, now_ms).unwrap();
    repository.add_target(&team, "models/a/1", (3, Hash::of(b"one")), None, now_ms).unwrap();
    for (role, seeds) in [(RoleName::root(), &[1, 2][..]), (targets, &[4]), (team, &[7])] {
        for seed in seeds {
            repository.sign(&role, &key(*seed)).unwrap();
        }
    }
    let write = |repository: &mut Repository| {
        let published = repository.publish(&[&key(5), &key(6)], now_ms).unwrap();
        assert_eq!(published.waiting, []);
        for (file, bytes) in published.files {
            std::fs::write(folder.join(file.as_str()), bytes).unwrap();
        }
    };
    write(&mut repository);
    let (new, old) = (key(8).key().clone(), key(1).id());
    repository.rotate(&RoleName::root(), &[new], &[old], None, now_ms).unwrap();
    for seed in [1, 2, 8] {
        repository.sign(&RoleName::root(), &key(seed)).unwrap();
    }
    write(&mut repository);
}

#[test]
fn ours_are_followed_by_their_client_on_the_half_it_knows() {
    use wire::world::Clock;
    let now_ms = wire::world::System::new().wall_ms();
    let folder = tempfile::tempdir().unwrap();
    ours(folder.path(), now_ms);
    let arguments = [folder.path().as_os_str(), "models/a/1".as_ref(), "models/b/1".as_ref()];
    let Some(printed) = python("client.py", &arguments) else { return };
    assert_eq!(printed, format!("models/a/1 {}\nmodels/b/1 none\n", Hash::of(b"one")));

    let kinds = KindSet::hybrid();
    let root = std::fs::read(folder.path().join("1.root.json")).unwrap();
    let mut trusted = Trusted::of_root(&root, &kinds).unwrap();
    assert_eq!(follow(&mut trusted, &kinds, folder.path(), Want::Refresh, now_ms), Outcome::Fresh);
    // Whoever has the Ed25519 half of the timestamp's key only: they follow, we do not.
    let seed = to_hex(&[6; 32]);
    let mut resign: Vec<&OsStr> = vec!["--resign".as_ref(), seed.as_ref()];
    resign.extend(arguments);
    python("client.py", &resign).unwrap();
    let refused = follow(&mut trusted, &kinds, folder.path(), Want::Refresh, now_ms);
    assert!(matches!(refused, Outcome::Failed(UpdateError::Verify { .. })), "{refused:?}");
}
