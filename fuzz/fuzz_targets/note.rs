//! Notes, keys and checkpoints from strangers: any bytes give what is written the same again, or an error; nothing is believed
//! that was not signed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use package::tlog::note::{Checkpoint, NoteKey, NoteSigner, open};

fuzz_target!(|bytes: &[u8]| {
    let signer = NoteSigner::from_seed("fuzz", &[1; 32]).expect("a seed makes a key");
    assert!(open(bytes, signer.key()).is_err(), "nobody signs by chance");
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = NoteKey::parse(text) {
        assert_eq!(NoteKey::parse(&key.to_string()), Ok(key));
    }
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        assert_eq!(Checkpoint::parse(&checkpoint.text()), Ok(checkpoint));
    }
    if let Ok(note) = signer.sign(text) {
        assert_eq!(open(note.as_bytes(), signer.key()), Ok(text));
    }
});
