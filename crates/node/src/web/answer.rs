//! What a server's answer means for a download of which a part is there already. Pure.

use std::ops::Range;

/// What the answer's head says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// 200, 206, 304 or 416; others are errors before.
    pub status: u16,
    /// A strong mark of the content, with its quotes.
    pub etag: Option<String>,
    /// The length of this answer's body.
    pub length: Option<u64>,
    /// `Content-Range`, as it stands.
    pub range: Option<String>,
}

/// What is known of the whole file before the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The mark under which the part was loaded.
    pub etag: Option<String>,
    /// The size of the whole.
    pub total_bytes: Option<u64>,
    /// Whether that size is the repository's word, and the file must have it.
    pub is_promised: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The body goes on where the part ends.
    Append {
        /// The size of the whole.
        total_bytes: u64,
    },
    /// The body is the whole: the part goes.
    Whole {
        /// Its size, if the server says it.
        total_bytes: Option<u64>,
    },
    /// The part fits nothing the server has: it goes, and the whole is asked for.
    AskForWhole,
    /// The part is the whole.
    Complete,
    /// The model that is here is what the server has.
    NotModified,
    /// The file is not as large as the repository said.
    WrongSize {
        /// What was promised.
        promised_bytes: u64,
        /// What the server has.
        found_bytes: u64,
    },
    /// The answer makes no sense.
    Nonsense(&'static str),
}

/// Judges an answer to a question for the bytes from `have` on.
pub fn judge(head: &Head, have: u64, known: &Known) -> Verdict {
    let wrong = |found_bytes: u64| {
        let promised = known.total_bytes.filter(|_| known.is_promised);
        promised
            .filter(|promised| *promised != found_bytes)
            .map(|promised_bytes| Verdict::WrongSize { promised_bytes, found_bytes })
    };
    match head.status {
        200 => match head.length {
            Some(length) => wrong(length).unwrap_or(Verdict::Whole { total_bytes: Some(length) }),
            None => Verdict::Whole { total_bytes: known.total_bytes.filter(|_| known.is_promised) },
        },
        206 => {
            let Some(range) = head.range.as_deref().and_then(ContentRange::parse) else {
                return Verdict::Nonsense("it sent a part without saying which");
            };
            let ContentRange { first, last, total: Some(total) } = range else {
                return Verdict::Nonsense("it sent a part of a file without the file's size");
            };
            if let Some(verdict) = wrong(total) {
                return verdict;
            }
            let changed = known.etag.is_some() && head.etag.is_some() && known.etag != head.etag;
            let resized = known.total_bytes.is_some_and(|known| known != total);
            let fits = first == have && last.checked_add(1) == Some(total);
            if !changed && !resized && fits {
                Verdict::Append { total_bytes: total }
            } else if have > 0 {
                Verdict::AskForWhole
            } else {
                Verdict::Nonsense("it sent another part than was asked for")
            }
        }
        304 => Verdict::NotModified,
        416 => {
            let total = head.range.as_deref().and_then(|range| range.trim().strip_prefix("bytes */"));
            let is_all = total.and_then(|total| total.parse().ok()) == Some(have);
            let same = known.etag.is_none() || head.etag.is_none() || known.etag == head.etag;
            match have {
                0 => Verdict::Nonsense("it has no such part of the file, although the whole was asked for"),
                _ if is_all && same => wrong(have).unwrap_or(Verdict::Complete),
                _ => Verdict::AskForWhole,
            }
        }
        _ => Verdict::Nonsense("its status fits no question of ours"),
    }
}

/// What an answer's body is of a file of `total_bytes`: the part that was asked for, or all of it from who knows no ranges.
/// `asked`: `None` if all was asked for.
pub fn judge_part(
    head: &Head,
    asked: Option<&Range<u64>>,
    total_bytes: u64,
) -> Result<Range<u64>, &'static str> {
    let part = match (head.status, asked) {
        (200, _) => 0..total_bytes,
        (206, Some(asked)) => {
            let range = head.range.as_deref().and_then(ContentRange::parse);
            let range = range.ok_or("it sent a part without saying which")?;
            if range.total.is_some_and(|total| total != total_bytes) {
                return Err("what it has is of another size");
            }
            if (range.first, range.last.checked_add(1)) != (asked.start, Some(asked.end)) {
                return Err("it sent another part than was asked for");
            }
            asked.clone()
        }
        _ => return Err("its status fits no question of ours"),
    };
    match head.length {
        Some(length) if length != part.end - part.start => Err("what it has is of another size"),
        _ => Ok(part),
    }
}

/// `bytes 5-9/10`, both ends included.
struct ContentRange {
    first: u64,
    last: u64,
    total: Option<u64>,
}

impl ContentRange {
    fn parse(text: &str) -> Option<ContentRange> {
        let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let total = match total.trim() {
            "*" => None,
            total => Some(total.parse().ok()?),
        };
        (first <= last && total.is_none_or(|total| last < total)).then_some(ContentRange {
            first,
            last,
            total,
        })
    }
}

/// A mark that promises the very same bytes; `W/"…"` does not, and what is no mark neither.
pub fn strong(etag: &str) -> Option<String> {
    let etag = etag.trim();
    let inner = etag.strip_prefix('"')?.strip_suffix('"')?;
    let plain = |byte: u8| byte == 0x21 || (0x23..0x7f).contains(&byte);
    (inner.len() <= 256 && inner.bytes().all(plain)).then(|| etag.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_what_they_mean() {
        let tag = |tag: &str| (!tag.is_empty()).then(|| format!("\"{tag}\""));
        let check = |status: u16,
                     etag: &str,
                     length: Option<u64>,
                     range: &str,
                     have: u64,
                     known: Known,
                     expected: Verdict| {
            let range = (!range.is_empty()).then(|| range.to_owned());
            let head = Head { status, etag: tag(etag), length, range };
            assert_eq!(judge(&head, have, &known), expected, "{head:?} {have} {known:?}");
        };
        let none = Known::default();
        let seen =
            |etag: &str, total| Known { etag: tag(etag), total_bytes: Some(total), is_promised: false };
        let promised = |total| Known { etag: None, total_bytes: Some(total), is_promised: true };
        let whole = |total| Verdict::Whole { total_bytes: total };
        let nonsense = Verdict::Nonsense;

        check(200, "a", Some(10), "", 0, none.clone(), whole(Some(10)));
        check(200, "a", None, "", 0, none.clone(), whole(None));
        check(200, "a", None, "", 0, promised(10), whole(Some(10)));
        check(200, "b", Some(12), "", 5, seen("a", 10), whole(Some(12)));
        check(
            200,
            "",
            Some(9),
            "",
            0,
            promised(10),
            Verdict::WrongSize { promised_bytes: 10, found_bytes: 9 },
        );
        check(206, "a", Some(5), "bytes 5-9/10", 5, seen("a", 10), Verdict::Append { total_bytes: 10 });
        check(206, "", None, "bytes 5-9/10", 5, promised(10), Verdict::Append { total_bytes: 10 });
        check(206, "b", Some(5), "bytes 5-9/10", 5, seen("a", 10), Verdict::AskForWhole);
        check(206, "a", Some(5), "bytes 5-10/11", 5, seen("a", 10), Verdict::AskForWhole);
        check(206, "a", Some(6), "bytes 4-9/10", 5, seen("a", 10), Verdict::AskForWhole);
        check(206, "a", Some(2), "bytes 5-6/10", 5, seen("a", 10), Verdict::AskForWhole);
        check(
            206,
            "a",
            Some(5),
            "bytes 5-9/11",
            5,
            promised(10),
            Verdict::WrongSize { promised_bytes: 10, found_bytes: 11 },
        );
        check(
            206,
            "a",
            Some(5),
            "bytes 5-9/*",
            5,
            seen("a", 10),
            nonsense("it sent a part of a file without the file's size"),
        );
        check(206, "a", Some(5), "", 5, none.clone(), nonsense("it sent a part without saying which"));
        check(
            206,
            "a",
            Some(5),
            "bytes 9-5/10",
            5,
            none.clone(),
            nonsense("it sent a part without saying which"),
        );
        check(
            206,
            "a",
            Some(5),
            "bytes 1-9/10",
            0,
            none.clone(),
            nonsense("it sent another part than was asked for"),
        );
        check(304, "a", None, "", 0, none.clone(), Verdict::NotModified);
        check(416, "a", None, "bytes */10", 10, seen("a", 10), Verdict::Complete);
        check(416, "b", None, "bytes */10", 10, seen("a", 10), Verdict::AskForWhole);
        check(416, "a", None, "bytes */9", 10, seen("a", 10), Verdict::AskForWhole);
        check(
            416,
            "a",
            None,
            "",
            0,
            none,
            nonsense("it has no such part of the file, although the whole was asked for"),
        );
    }

    #[test]
    fn parts_of_a_file_of_known_size() {
        let check = |status, range: &str, length, asked: Option<Range<u64>>, expected: Option<Range<u64>>| {
            let range = (!range.is_empty()).then(|| range.to_owned());
            let head = Head { status, etag: None, length, range };
            assert_eq!(judge_part(&head, asked.as_ref(), 10).ok(), expected, "{head:?} {asked:?}");
        };
        check(206, "bytes 3-5/10", Some(3), Some(3..6), Some(3..6));
        check(206, "bytes 3-5/*", None, Some(3..6), Some(3..6));
        check(200, "", Some(10), Some(3..6), Some(0..10));
        check(200, "", None, None, Some(0..10));
        check(206, "bytes 3-5/10", Some(4), Some(3..6), None);
        check(206, "bytes 3-5/11", Some(3), Some(3..6), None);
        check(206, "bytes 3-6/10", Some(4), Some(3..6), None);
        check(206, "bytes 2-5/10", Some(4), Some(3..6), None);
        check(206, "bytes 0-9/10", Some(10), None, None);
        check(206, "", Some(3), Some(3..6), None);
        check(200, "", Some(11), None, None);
        check(416, "bytes */10", None, Some(3..6), None);
        check(304, "", None, None, None);
    }

    #[test]
    fn marks_that_promise_the_same_bytes() {
        for (etag, expected) in [
            ("\"a\"", true),
            (" \"a-b:c\" ", true),
            ("W/\"a\"", false),
            ("a", false),
            ("\"a\"b\"", false),
            ("\"\u{7f}\"", false),
            ("", false),
        ] {
            assert_eq!(strong(etag).is_some(), expected, "{etag}");
        }
    }
}
