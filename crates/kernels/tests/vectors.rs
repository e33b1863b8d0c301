//! Blocks that ggml encoded and decoded, from the shared data: ours decode to the same bits.

use std::path::PathBuf;

use kernels::format::Format;

/// The folder of vectors, if it is at hand.
fn vectors() -> Option<PathBuf> {
    let data = std::env::var_os("SELVEDGE_SHARED_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    );
    let folder = data.join("slm/quant-vectors");
    folder.is_dir().then_some(folder)
}

#[test]
fn shared_data_vectors_decode_to_the_same_bits() {
    let Some(folder) = vectors() else {
        println!("skipped: ggml's quantised vectors: no shared data");
        return;
    };
    for (format, name) in
        [(Format::Q4_0, "q4_0"), (Format::Q8_0, "q8_0"), (Format::Q4K, "q4_K"), (Format::Q6K, "q6_K")]
    {
        let bytes = std::fs::read(folder.join(format!("{name}.bin"))).unwrap();
        let wanted = std::fs::read(folder.join(format!("{name}.dequant.f32"))).unwrap();
        let mut ours = vec![0.0; wanted.len() / 4];
        format.decode(&bytes, &mut ours);
        for (index, (ours, wanted)) in ours.iter().zip(wanted.as_chunks().0).enumerate() {
            assert_eq!(ours.to_bits(), u32::from_le_bytes(*wanted), "{name}: number {index}");
        }
    }
}
