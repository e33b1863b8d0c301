//! What sinks that post to a web address share: the client, the token that is shown, and what a refusal says.

use std::path::Path;
use std::time::Duration;

use reqwest::Client;
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};

use super::trouble::SinkError;
use crate::config::token::read_token;
use crate::why::why;

/// The longest that a receiver may ask for.
pub(super) const LATER_MOST_S: u64 = 300;

/// A client that goes where it is told and nowhere else: a post that was redirected would be somebody else's.
pub(super) fn client(timeout: Duration) -> Result<Client, SinkError> {
    let client = Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none()).build();
    client.map_err(|error| SinkError::Outside(why(&error)))
}

/// The header with the token of a file, if there is one.
pub(super) fn authorization(token_file: Option<&Path>) -> Result<Option<HeaderValue>, SinkError> {
    let Some(file) = token_file else { return Ok(None) };
    let token = read_token(file).map_err(|error| SinkError::Outside(why(&error)))?;
    let mut value =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| SinkError::Outside(why(&error)))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// For how many seconds a receiver asks to be left alone: a number, or a time, which is set against the answer's own.
pub(super) fn later_s(headers: &HeaderMap) -> Option<u64> {
    let asked = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = asked.parse::<u64>().ok().or_else(|| {
        let second = |text: &str| Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_second());
        let now = second(headers.get(DATE)?.to_str().ok()?)?;
        u64::try_from(second(asked)?.saturating_sub(now)).ok()
    })?;
    Some(seconds.min(LATER_MOST_S))
}

/// At most so many bytes of an answer's beginning.
pub(super) async fn first_bytes(mut answer: reqwest::Response, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < most
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        bytes.extend_from_slice(&chunk[..chunk.len().min(most - bytes.len())]);
    }
    bytes
}

/// The same as text without control characters.
pub(super) fn plain(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_receiver_asks_for() {
        let check = |after: &'static str, date: Option<&'static str>, expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(after));
            if let Some(date) = date {
                headers.insert(DATE, HeaderValue::from_static(date));
            }
            assert_eq!(later_s(&headers), expected, "{after} {date:?}");
        };
        check("7", None, Some(7));
        check("86400", None, Some(LATER_MOST_S));
        check("soon", None, None);
        let now = Some("Wed, 21 Oct 2026 07:28:00 GMT");
        check("Wed, 21 Oct 2026 07:28:30 GMT", now, Some(30));
        check("Wed, 21 Oct 2026 07:27:00 GMT", now, None);
        check("Wed, 21 Oct 2026 07:28:30 GMT", None, None);
    }
}
