//! Signed documents from strangers: strict JSON, all roles, assignments, key files and provenance.
#![no_main]

use libfuzzer_sys::fuzz_target;
use package::trust::assignment::Assignment;
use package::trust::canonical::{canonical, parse, to_json};
use package::trust::envelope::Envelope;
use package::trust::key::{KindSet, PublicKey};
use package::trust::keyfile::unlock;
use package::trust::metadata::{Role, Root, Snapshot, Targets, Timestamp};
use package::trust::provenance::check;
use package::trust::search::Search;
use package::trust::trusted::Trusted;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = parse(bytes) {
        let text = to_json(&value);
        assert_eq!(parse(&text).as_ref(), Ok(&value), "what is written is read back");
        assert_eq!(canonical(&parse(&text).expect("just read")), canonical(&value));
        let _ = PublicKey::read(&value);
        let _ = Root::read(&value);
        let _ = Timestamp::read(&value);
        let _ = Snapshot::read(&value);
        let _ = Assignment::read(&value);
        if let Ok(targets) = Targets::read(&value) {
            let _ = Search::begin("models/a/1", &targets);
        }
    }
    let _ = Envelope::read(bytes);
    assert!(Trusted::of_root(bytes, &KindSet::all()).is_err(), "nobody signs by chance");
    let _ = check(bytes, &PublicKey::EcdsaP256(Vec::new()), &[]);
    // Without the work factor: each digit of it doubles the time, and it is not what is looked for.
    if !bytes.windows(6).any(|word| word == b"scrypt") {
        let _ = unlock(bytes, "pass");
    }
});
