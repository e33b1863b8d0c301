//! Addresses of pages with an expression in them.

/// Percent-encodes what may not stand in a query's value.
pub fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let quote = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(quote).collect()
}

/// The fleet's page for an expression.
pub fn fleet(expression: &str) -> String {
    format!("/nodes?where={}", quoted(expression))
}

/// A text as the language of expressions writes it.
pub fn text(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Both expressions at once.
pub fn both(one: &str, two: &str) -> String {
    match one.trim() {
        "" | "all" => two.to_owned(),
        one if one.contains("||") => format!("({one}) && {two}"),
        one => format!("{one} && {two}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_stand_in_addresses() {
        assert_eq!(fleet("a == \"ö\" && b"), "/nodes?where=a%20%3D%3D%20%22%C3%B6%22%20%26%26%20b");
        assert_eq!(text("a\"\\"), r#""a\"\\""#);
        assert_eq!(both("a || b", "c"), "(a || b) && c");
        assert_eq!(both(" all ", "c"), "c");
    }
}
