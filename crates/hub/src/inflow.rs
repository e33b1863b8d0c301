//! A body on its way in, piece by piece: no longer than allowed, and never waiting for ever.
//!
//! The registry's bodies take as long as they take, so they stand outside the time that other requests have.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::StreamExt as _;
use tokio::time::timeout;

/// How long nothing may come.
const IDLE: Duration = Duration::from_secs(60);

/// How many bytes are gathered before they are worth a write.
const GATHER_BYTES: u64 = 1 << 20;

/// A body that did not come whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It goes on behind its end.
    #[error("more came than the {max_bytes} bytes that are taken here")]
    TooLong {
        /// The most that is taken.
        max_bytes: u64,
    },
    /// Nothing came.
    #[error("nothing came for {} seconds", IDLE.as_secs())]
    Idle,
    /// The connection ended.
    #[error("the connection was cut")]
    Cut,
}

/// A body on its way in.
pub struct Inflow {
    body: BodyDataStream,
    max_bytes: u64,
    came_bytes: u64,
}

impl Inflow {
    /// A body of at most `max_bytes`.
    pub fn new(body: Body, max_bytes: u64) -> Inflow {
        Inflow { body: body.into_data_stream(), max_bytes, came_bytes: 0 }
    }

    /// Adds what comes next, about a MiB; false once that was the end. What came before it broke is there, too.
    pub async fn gather(&mut self, into: &mut Vec<Bytes>) -> Result<bool, Broken> {
        let until = self.came_bytes.saturating_add(GATHER_BYTES);
        while self.came_bytes < until {
            let piece = match timeout(IDLE, self.body.next()).await {
                Ok(Some(Ok(piece))) => piece,
                Ok(Some(Err(_))) => return Err(Broken::Cut),
                Ok(None) => return Ok(false),
                Err(_) => return Err(Broken::Idle),
            };
            let bytes = piece.len() as u64;
            if bytes > self.max_bytes - self.came_bytes {
                return Err(Broken::TooLong { max_bytes: self.max_bytes });
            }
            self.came_bytes += bytes;
            into.push(piece);
        }
        Ok(true)
    }

    /// All of it; for small ones.
    pub async fn whole(mut self) -> Result<Vec<u8>, Broken> {
        let mut pieces = Vec::new();
        while self.gather(&mut pieces).await? {}
        Ok(pieces.concat())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn what_came_before_it_broke_is_there() {
        let pieces = [Ok(Bytes::from_static(b"abc")), Ok(Bytes::from_static(b"de")), Err("cut")];
        let mut inflow = Inflow::new(Body::from_stream(stream::iter(pieces)), 10);
        let mut came = Vec::new();
        assert_eq!(inflow.gather(&mut came).await, Err(Broken::Cut));
        assert_eq!(came.concat(), b"abcde");
    }

    #[tokio::test]
    async fn not_a_byte_more() {
        assert_eq!(Inflow::new(Body::from("abcde"), 5).whole().await.unwrap(), b"abcde");
        let long = Inflow::new(Body::from("abcde"), 4).whole().await;
        assert_eq!(long, Err(Broken::TooLong { max_bytes: 4 }));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends() {
        let silent = stream::pending::<Result<Bytes, String>>();
        assert_eq!(Inflow::new(Body::from_stream(silent), 4).whole().await, Err(Broken::Idle));
    }
}
