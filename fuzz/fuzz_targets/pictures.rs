//! A stranger's camera: any bytes are cut into pictures within their limit, mended, decoded or refused, and measured.
#![no_main]

use libfuzzer_sys::fuzz_target;
use net::picture::Picture;
use node::source::measure::Measure;
use node::source::pictures::{mjpeg, yuyv};
use wire::hash::Hash;

fuzz_target!(|bytes: &[u8]| {
    const MOST: usize = 4_096;
    let mut cutter = mjpeg::Cutter::new(MOST);
    let mut measure = Measure::default();
    for piece in bytes.chunks(97) {
        for jpeg in cutter.push(piece) {
            assert!(jpeg.len() <= MOST);
            if let Ok(picture) = Picture::decode_within(&mjpeg::whole(&jpeg), 1 << 16) {
                let frame = measure.frame(0, picture, Hash::of(&jpeg));
                assert!(frame.row()[..3].iter().all(|number| number.is_finite()));
            }
        }
    }
    let _ = yuyv::picture(bytes.len() / 8 * 2, 2, bytes);
});
