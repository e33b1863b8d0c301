//! Cuts a stream of bytes into JPEG pictures, and mends those that come without their tables.
//!
//! The segments of each picture are walked through by their lengths, so a preview inside of one does not end it. Cameras that speak
//! MJPEG leave out the Huffman tables, which are always the same: such a picture gets the mark by which decoders know to take those.
//! Pure; no picture is held beyond so many bytes.

use std::borrow::Cow;

/// Where in a picture the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Between pictures.
    Outside,
    /// After an 0xff between pictures.
    Begin,
    /// Where a marker must begin.
    Marker,
    /// After its 0xff.
    Code,
    /// The first byte of a segment's length, and whether a scan follows.
    High { scan: bool },
    /// The second one.
    Low { scan: bool, high: u8 },
    /// So many bytes of a segment are left.
    Segment { scan: bool, left: usize },
    /// In the pixels of a scan.
    Scan,
    /// After an 0xff there.
    ScanCode,
}

/// Cuts a stream.
#[derive(Debug)]
pub struct Cutter {
    at: At,
    held: Vec<u8>,
    most: usize,
    broken: u64,
}

impl Cutter {
    /// Pictures have at most so many bytes.
    pub fn new(most: usize) -> Cutter {
        Cutter { at: At::Outside, held: Vec::new(), most, broken: 0 }
    }

    /// Pictures given up so far: broken off, or too large.
    pub fn broken(&self) -> u64 {
        self.broken
    }

    /// Takes bytes as they come; gives the pictures that are whole now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut whole = Vec::new();
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            if let At::Segment { scan, left } = self.at {
                // What nobody looks into is taken at once.
                let taken = left.min(rest.len());
                self.held.extend_from_slice(&rest[..taken]);
                rest = &rest[taken..];
                self.at = match left - taken {
                    0 if scan => At::Scan,
                    0 => At::Marker,
                    left => At::Segment { scan, left },
                };
            } else {
                rest = after;
                if self.step(*byte) {
                    whole.push(std::mem::take(&mut self.held));
                    self.at = At::Outside;
                }
            }
            if self.held.len() > self.most {
                self.give_up();
            }
        }
        whole
    }

    /// Takes a byte; whether it ends a picture.
    fn step(&mut self, byte: u8) -> bool {
        let (next, held) = match (self.at, byte) {
            (At::Outside | At::Begin, 0xff) => (At::Begin, false),
            (At::Begin, 0xd8) => {
                self.held.push(0xff);
                (At::Marker, true)
            }
            (At::Outside | At::Begin, _) => (At::Outside, false),
            (At::Marker, 0xff) => (At::Code, true),
            // Any number of 0xff may stand before a marker's code.
            (At::Code, 0xff) => (At::Code, false),
            (At::Code | At::ScanCode, 0xd9) => {
                self.held.push(byte);
                return true;
            }
            // A picture within a picture is the next one: this one was broken off.
            (At::Code | At::ScanCode, 0xd8) => {
                self.give_up();
                self.held.push(0xff);
                (At::Marker, true)
            }
            (At::Scan, 0xff) => (At::ScanCode, true),
            (At::Scan, _) => (At::Scan, true),
            (At::ScanCode, 0xff) => (At::ScanCode, false),
            (At::ScanCode, 0x00 | 0xd0..=0xd7) => (At::Scan, true),
            // Markers that stand alone.
            (At::Code, 0x01 | 0xd0..=0xd7) => (At::Marker, true),
            (At::Code | At::ScanCode, 0xda) => (At::High { scan: true }, true),
            (At::ScanCode, _) => (At::High { scan: false }, true),
            (At::Code, 0x02..) => (At::High { scan: false }, true),
            (At::High { scan }, _) => (At::Low { scan, high: byte }, true),
            (At::Low { scan, high }, _) => match usize::from(u16::from_be_bytes([high, byte])) {
                0 | 1 => {
                    self.give_up();
                    return false;
                }
                2 if scan => (At::Scan, true),
                2 => (At::Marker, true),
                length => (At::Segment { scan, left: length - 2 }, true),
            },
            (At::Marker | At::Code, _) | (At::Segment { .. }, _) => {
                self.give_up();
                return false;
            }
        };
        self.at = next;
        if held {
            self.held.push(byte);
        }
        false
    }

    fn give_up(&mut self) {
        self.broken += 1;
        self.held = Vec::new();
        self.at = At::Outside;
    }
}

/// A picture with the mark that it takes the usual tables, if it has none of its own.
pub fn whole(jpeg: &[u8]) -> Cow<'_, [u8]> {
    if jpeg.len() < 4 || has_tables(jpeg) {
        return Cow::Borrowed(jpeg);
    }
    let (begin, rest) = jpeg.split_at(2);
    let mark: &[u8] = b"\xff\xe0\x00\x10AVI1\0\0\0\0\0\0\0\0\0\0";
    Cow::Owned([begin, mark, rest].concat())
}

/// Whether Huffman tables stand before the first scan.
fn has_tables(jpeg: &[u8]) -> bool {
    let mut rest = &jpeg[2..];
    while let [0xff, code, after @ ..] = rest {
        match (code, after) {
            (0xc4, _) => return true,
            (0xda, _) => return false,
            (0xff, _) => rest = &rest[1..],
            (0x01 | 0xd0..=0xd7, _) => rest = after,
            (_, [high, low, ..]) => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest = after.get(length..).unwrap_or_default();
            }
            _ => return false,
        }
    }
    // Whatever this is, it is not mended.
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use net::picture::Picture;

    /// 16×16 pixels, a red square on blue with Huffman tables of its own (the usual ones), as `jpegenc` of GStreamer writes it.
    const JPEG: &[u8] = include_bytes!("../../../tests/pictures/square.jpg");

    fn pushed(cutter: &mut Cutter, bytes: &[u8], piece: usize) -> Vec<Vec<u8>> {
        bytes.chunks(piece).flat_map(|piece| cutter.push(piece)).collect()
    }

    #[test]
    fn pictures_are_cut_whatever_the_pieces_are() {
        // A comment that has a whole small picture in it, and bytes of nobody between two pictures.
        let comment = [&[0xff, 0xfe, 0x00, 0x06][..], &[0xff, 0xd8, 0xff, 0xd9]].concat();
        let with = [&JPEG[..2], &comment, &JPEG[2..]].concat();
        let stream = [&with[..], b"\0\xff\0junk", JPEG, JPEG].concat();
        for piece in [1, 2, 3, 64, stream.len()] {
            let mut cutter = Cutter::new(1 << 20);
            assert_eq!(pushed(&mut cutter, &stream, piece), [with.as_slice(), JPEG, JPEG], "{piece}");
            assert_eq!(cutter.broken(), 0);
        }
    }

    #[test]
    fn what_is_broken_off_or_too_large_costs_itself_alone() {
        let half = &JPEG[..JPEG.len() - 40];
        let mut cutter = Cutter::new(1 << 20);
        let cut = pushed(&mut cutter, &[half, JPEG, JPEG].concat(), 7);
        assert_eq!((cut.len(), cutter.broken()), (2, 1));
        let mut cutter = Cutter::new(JPEG.len());
        let large = [&JPEG[..2], &[0xff, 0xfe, 0x00, 0x10], &[b'x'; 14], &JPEG[2..]].concat();
        assert_eq!(pushed(&mut cutter, &[&large, JPEG].concat(), 9), [JPEG]);
        assert!(cutter.broken() > 0 && cutter.held.is_empty());
        let mut cutter = Cutter::new(100);
        let noise: Vec<u8> = (0..100_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        pushed(&mut cutter, &noise, 999);
        assert!(cutter.held.len() <= 100);
    }

    #[test]
    fn a_picture_without_tables_is_mended() {
        let mut bare = Vec::from(&JPEG[..2]);
        let mut rest = &JPEG[2..];
        while let [0xff, code, high, low, ..] = rest {
            let end = 2 + usize::from(u16::from_be_bytes([*high, *low]));
            if *code == 0xda {
                break;
            }
            if *code != 0xc4 {
                bare.extend_from_slice(&rest[..end]);
            }
            rest = &rest[end..];
        }
        bare.extend_from_slice(rest);
        assert!(bare.len() + 100 < JPEG.len() && Picture::decode(&bare).is_err());
        assert!(matches!(whole(JPEG), Cow::Borrowed(_)));
        assert_eq!(Picture::decode(&whole(&bare)).unwrap(), Picture::decode(JPEG).unwrap());
        for cut in 0..bare.len() {
            let _ = whole(&bare[..cut]);
        }
    }
}
