//! Sealed files, grants and public keys from strangers: any bytes are refused, or are the file that was sealed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use package::seal::content::ContentKey;
use package::seal::hybrid::{NodePublic, NodeSecret};
use package::seal::stream::{HEADER_BYTES, Opener, Sealer};
use package::seal::wrap::Grant;
use wire::world::Simulated;

const PLAIN: &[u8] = b"weights";

fuzz_target!(|bytes: &[u8]| {
    if let Ok(grant) = Grant::parse(bytes) {
        assert_eq!(Grant::parse(&grant.to_bytes()).expect("we wrote it"), grant);
    }
    if let Ok(public) = NodePublic::parse(bytes) {
        assert_eq!(NodePublic::parse(&public.to_bytes()).expect("we wrote it"), public);
    }
    let _ = NodeSecret::from_bytes(bytes);

    // No mutation finds a key's commitment, so a sealed file is changed by the bytes here.
    let key = ContentKey::draw(&mut Simulated::new(1));
    let sealer = Sealer::new(&key, PLAIN.len() as u64, &mut Simulated::new(2)).expect("it is short");
    let mut file = Vec::new();
    sealer.seal(&mut &PLAIN[..], &mut file).expect("memory is a place to write to");
    let whole = file.clone();
    file.iter_mut().zip(bytes).for_each(|(byte, change)| *byte ^= change);
    file.extend(bytes.get(whole.len()..).unwrap_or_default());
    let header = file.first_chunk::<HEADER_BYTES>().expect("it is longer");
    let Ok(opener) = Opener::new(&key, header, file.len() as u64) else { return };
    let last = opener.sealed_range(opener.chunks() - 1).expect("there is one");
    assert_eq!(last.end, file.len() as u64);
    let mut plain = Vec::new();
    if opener.open_all(&mut &file[HEADER_BYTES..], &mut plain).is_ok() {
        assert!(plain == PLAIN && file == whole);
    }
});
