//! The forms in which a word may have got somewhere: as it is, as hexadecimal digits, in base64, behind percent signs, as JSON escapes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A word, and how it looks in other clothes.
pub(crate) struct Forms {
    /// In small letters: what may be written in either.
    small: Vec<String>,
    /// Letter by letter: base64, at each of the three places of a group where the word may begin.
    exact: Vec<String>,
}

impl Forms {
    /// Of a word of small letters.
    pub(crate) fn of(word: &str) -> Forms {
        let each = |form: fn(u8) -> String| word.bytes().map(form).collect::<String>();
        let small = vec![
            word.to_owned(),
            each(|byte| format!("{byte:02x}")),
            each(|byte| format!("%{byte:02x}")),
            each(|byte| format!("\\u00{byte:02x}")),
        ];
        let base64 = |before: usize| {
            let mut bytes = vec![0; before];
            bytes.extend_from_slice(word.as_bytes());
            // The characters that also say something of what stands before or behind are left out.
            STANDARD.encode(&bytes)[(before * 8).div_ceil(6)..bytes.len() * 8 / 6].to_owned()
        };
        Forms { small, exact: (0..3).map(base64).collect() }
    }

    /// Where the word stands in a text, in whatever form, with what is around it.
    pub(crate) fn find(&self, text: &str) -> Option<String> {
        // Small letters of ASCII have the places of the capitals.
        let lower = text.to_ascii_lowercase();
        let small = self.small.iter().find_map(|form| lower.find(form.as_str()));
        let at = small.or_else(|| self.exact.iter().find_map(|form| text.find(form.as_str())))?;
        let begin = text.floor_char_boundary(at.saturating_sub(200));
        let end = text.ceil_char_boundary((at + 100).min(text.len()));
        Some(text[begin..end].to_owned())
    }
}

#[test]
fn every_form_is_found() {
    let word = "zqcanary";
    let forms = Forms::of(word);
    let check = |text: &str, expected: bool| assert_eq!(forms.find(text).is_some(), expected, "{text}");
    check("a zqcanary_pulse", true);
    check("ZqCanary", true);
    check("zq canary, enpxY2FuYXJ4", false);
    check("x7a7163616E617279x", true);
    check("%7A%71%63%61%6e%61%72%79", true);
    check("\\u007a\\u0071\\u0063\\u0061\\u006e\\u0061\\u0072\\u0079", true);
    for before in ["", "a", "ab", "abc", "{\"x\":\"", "longer than one group"] {
        check(&STANDARD.encode(format!("{before}{word}_and more")), true);
        check(&STANDARD.encode(format!("{before}zq-canary")), false);
    }
}
