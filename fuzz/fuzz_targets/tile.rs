//! Files of a log from strangers: names, hashes, bundles of entries, proofs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use package::tlog::proof::{check_consistency, check_inclusion};
use package::tlog::tile::{Tile, entries_to_bytes, hashes_to_bytes};
use wire::hash::Hash;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(name) = std::str::from_utf8(bytes)
        && let Some(tile) = Tile::parse(name)
    {
        assert_eq!(tile.to_string(), name);
    }
    let Some((width, rest)) = bytes.split_first() else { return };
    let tile = Tile { width: u64::from(*width) + 1, ..Tile::parse("tile/entries/000").expect("a name") };
    if let Ok(entries) = tile.entries(rest) {
        assert_eq!(entries_to_bytes(&entries).as_deref(), Ok(rest));
    }
    if let Ok(hashes) = tile.hashes(rest) {
        assert_eq!(hashes_to_bytes(&hashes), rest);
    }
    let hashes: Vec<Hash> = rest.chunks_exact(32).filter_map(Hash::from_slice).collect();
    if let [root, other, proof @ ..] = &hashes[..] {
        let (size, index) = (u64::from(*width), u64::from(rest[0]));
        let _ = check_inclusion(root, size, index, other, proof);
        let _ = check_consistency(index, other, size, root, proof);
        let _ = check_consistency(index, other, u64::MAX, root, proof);
    }
});
