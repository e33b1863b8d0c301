//! What a device's answer says: a setting, as JSON or as plain text.

use wire::body::act::Setting;

use crate::act::limits::Allowed;

/// What an answer says.
pub(super) fn setting(body: &[u8], pointer: &str, allowed: &Allowed) -> Result<Setting, String> {
    let text = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(json) => match json.pointer(pointer) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(serde_json::Value::Null) | None => return Err(format!("there is nothing at {pointer:?}")),
            Some(other) => other.to_string(),
        },
        Err(_) if pointer.is_empty() => String::from_utf8_lossy(body).into_owned(),
        Err(error) => return Err(error.to_string()),
    };
    allowed.read(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_says() {
        let words = Allowed::Words(vec!["open".into()]);
        let range = Allowed::Range { min: 0.0, max: 1.0 };
        let word = Ok(Setting::Word("open".into()));
        assert_eq!(setting(b"{\"state\":{\"now\":\"open\"}}", "/state/now", &words), word);
        assert_eq!(setting(b"open\n", "", &words), word);
        assert_eq!(setting(b"\"open\"", "", &words), word);
        assert_eq!(setting(b"{\"v\":0.5}", "/v", &range), Ok(Setting::Number(0.5)));
        assert!(setting(b"{\"v\":null}", "/v", &range).is_err());
        assert!(setting(b"<html>", "/v", &range).is_err());
    }
}
