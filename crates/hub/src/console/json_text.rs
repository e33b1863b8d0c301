//! JSON set out for reading without changing a single token of it: numbers, order and escapes stay as the node wrote
//! them. A tokenizer, not a parser, so depth costs nothing.

/// A piece of the text and what it is, for its colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// `k` key, `s` string, `n` number, `w` true, false and null, empty for the rest.
    pub class: &'static str,
    /// The text.
    pub text: String,
}

/// How deep lines are indented; what is deeper stays at this depth.
const INDENT_MAX: usize = 24;

/// Lists of numbers up to this long stay on one line.
const LINE_MAX: usize = 100;

/// Sets out JSON text.
pub fn set_out(json: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut plain = String::new();
    let bytes = json.as_bytes();
    let (mut at, mut depth) = (0_usize, 0_usize);
    let mut flat_until = 0;
    let line = |plain: &mut String, depth: usize| {
        plain.push('\n');
        plain.push_str(&"  ".repeat(depth.min(INDENT_MAX)));
    };
    while at < bytes.len() {
        let flat = at < flat_until;
        match bytes[at] {
            open @ (b'{' | b'[') => {
                let empty = next_token(bytes, at + 1).is_some_and(|next| matches!(bytes[next], b'}' | b']'));
                plain.push(open as char);
                if open == b'['
                    && !flat
                    && let Some(end) = plain_list(bytes, at)
                {
                    flat_until = end;
                } else if !empty && !flat {
                    depth += 1;
                    line(&mut plain, depth);
                }
                if empty && at >= flat_until {
                    // The closing one follows without a line of its own.
                    flat_until = next_token(bytes, at + 1).map_or(at, |next| next + 1);
                }
                at += 1;
            }
            close @ (b'}' | b']') => {
                if !flat {
                    depth = depth.saturating_sub(1);
                    line(&mut plain, depth);
                }
                plain.push(close as char);
                at += 1;
            }
            b',' => {
                plain.push(',');
                if flat {
                    plain.push(' ');
                } else {
                    line(&mut plain, depth);
                }
                at += 1;
            }
            b':' => {
                plain.push_str(": ");
                at += 1;
            }
            b' ' | b'\t' | b'\n' | b'\r' => at += 1,
            first => {
                let end = if first == b'"' { string_end(bytes, at) } else { word_end(bytes, at) };
                let class = match first {
                    b'"' if next_token(bytes, end).is_some_and(|next| bytes[next] == b':') => "k",
                    b'"' => "s",
                    b't' | b'f' | b'n' => "w",
                    _ => "n",
                };
                if !plain.is_empty() {
                    pieces.push(Piece { class: "", text: std::mem::take(&mut plain) });
                }
                // Ends lie beside ASCII, so on character boundaries.
                pieces.push(Piece { class, text: json.get(at..end).unwrap_or_default().to_owned() });
                at = end;
            }
        }
    }
    if !plain.is_empty() {
        pieces.push(Piece { class: "", text: plain });
    }
    pieces
}

fn next_token(bytes: &[u8], from: usize) -> Option<usize> {
    (from..bytes.len()).find(|&at| !bytes[at].is_ascii_whitespace())
}

/// The position after the closing quote.
fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn word_end(bytes: &[u8], from: usize) -> usize {
    let ends = |&at: &usize| {
        matches!(bytes[at], b',' | b'}' | b']' | b'{' | b'[' | b':' | b'"') || bytes[at].is_ascii_whitespace()
    };
    (from + 1..bytes.len()).find(ends).unwrap_or(bytes.len())
}

/// The end of a short list without objects or lists in it.
fn plain_list(bytes: &[u8], open: usize) -> Option<usize> {
    let within = &bytes[open + 1..bytes.len().min(open + LINE_MAX)];
    let end = within.iter().position(|byte| matches!(byte, b']' | b'[' | b'{' | b'"'))?;
    (within[end] == b']').then_some(open + 1 + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let text: String = set_out(json).iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(text, expected);
    }

    #[test]
    fn texts() {
        check("{}", "{}");
        check("[]", "[]");
        check("[ ]", "[]");
        check("1.50", "1.50");
        check(r#"{"a":1,"b":[1, 2.0,null]}"#, "{\n  \"a\": 1,\n  \"b\": [1, 2.0, null]\n}");
        check(r#"[{"a":{}},"x"]"#, "[\n  {\n    \"a\": {}\n  },\n  \"x\"\n]");
        check(r#"{"q\"{":"\\"}"#, "{\n  \"q\\\"{\": \"\\\\\"\n}");
    }

    #[test]
    fn colours() {
        let classes: Vec<_> =
            set_out(r#"{"k":"s","n":-1e5,"t":true}"#).iter().map(|piece| piece.class).collect();
        assert_eq!(classes, ["", "k", "", "s", "", "k", "", "n", "", "k", "", "w", ""]);
    }

    #[test]
    fn depth_and_nonsense_cost_nothing() {
        let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
        assert!(set_out(&deep).iter().map(|piece| piece.text.len()).sum::<usize>() < 8_000_000);
        for nonsense in ["\"", "\"\\", "{", "}}}", ":,:", "é\"é", "[1", "\u{0}"] {
            set_out(nonsense);
        }
    }
}
