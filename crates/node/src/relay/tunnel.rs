//! A tunnel: bytes of a node behind, sealed for the hub, carried there and back. What they say is not looked at, and could not be
//! read.
//!
//! Each direction has one piece in hand and takes the next when that one is out and paid for: who reads slowly is written to
//! slowly, and costs no memory.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::relay::gate::{Event, Seat};
use crate::via::{Via, Way};

/// How long the hub, or the relay before it, has to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How much is carried at once.
const PIECE_BYTES: usize = 16 << 10;

/// The longest answer of a relay before us.
const HEAD_MAX_BYTES: usize = 8 << 10;

/// Says through how many relays a tunnel goes already.
pub(super) const HOPS: &str = "selvedge-hops";

/// The hub's address, as it stands after `CONNECT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Without the brackets of a number.
    host: String,
    port: u16,
}

impl Target {
    /// Of an address that names a host.
    pub(super) fn of(url: &Url) -> Option<Target> {
        let host = url.host_str()?;
        Some(Target { host: bare(host).to_owned(), port: url.port_or_known_default()? })
    }

    /// Whether these are it.
    pub(super) fn is(&self, host: &str, port: Option<u16>) -> bool {
        bare(host).eq_ignore_ascii_case(&self.host) && port == Some(self.port)
    }

    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.authority())
    }
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// A way to the hub that opened, and what was said on it already.
pub(super) struct Opened {
    stream: TcpStream,
    said: Vec<u8>,
}

/// Opens a way to the hub: straight, or through the relay that this one is behind. `hops`: how many are behind us.
pub(super) async fn open(target: &Target, via: Option<&Arc<Via>>, hops: u32) -> Result<Opened, String> {
    let way = via.map(|via| (via, via.way()));
    let opening = async {
        match &way {
            Some((via, (_, Way::Relay(relay)))) => {
                let relay_at = Target::of(relay).ok_or("the relay before this one has no address")?;
                let stream = connect(&relay_at).await.map_err(|error| format!("{relay_at}: {error}"))?;
                ask(stream, target, via, hops).await
            }
            Some((_, (_, Way::Direct))) | None => {
                let stream = connect(target).await.map_err(|error| format!("{target}: {error}"))?;
                Ok(Opened { stream, said: Vec::new() })
            }
        }
    };
    let opened = tokio::time::timeout(OPEN_TIMEOUT, opening).await;
    let opened = opened.unwrap_or_else(|_| Err(format!("{target} did not open in time")));
    if let (Err(_), Some((via, (way, _)))) = (&opened, &way) {
        via.failed(*way);
    }
    opened
}

async fn connect(to: &Target) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((to.host.as_str(), to.port)).await?;
    // Small messages go on at once.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks the relay before this one.
async fn ask(mut stream: TcpStream, target: &Target, via: &Via, hops: u32) -> Result<Opened, String> {
    let authority = target.authority();
    let auth = via.auth().and_then(|value| value.to_str().ok());
    let auth = auth.map_or(String::new(), |value| format!("Proxy-Authorization: {value}\r\n"));
    let question = format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{auth}{HOPS}: {}\r\n\r\n",
        hops.saturating_add(1)
    );
    let failed = |error: std::io::Error| format!("the relay before this one: {error}");
    stream.write_all(question.as_bytes()).await.map_err(failed)?;
    let (mut said, mut piece) = (Vec::new(), [0; 1024]);
    let end = loop {
        if let Some(at) = said.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if said.len() > HEAD_MAX_BYTES {
            return Err("the relay before this one answers without an end".to_owned());
        }
        match stream.read(&mut piece).await.map_err(failed)? {
            0 => return Err("the relay before this one broke off".to_owned()),
            read => said.extend_from_slice(&piece[..read]),
        }
    };
    let line = said.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let status = String::from_utf8_lossy(line).split_ascii_whitespace().nth(1).map(str::to_owned);
    match status.as_deref() {
        Some("200") => Ok(Opened { stream, said: said.split_off(end) }),
        Some("407") => Err("the relay before this one does not know our token".to_owned()),
        _ => Err("the relay before this one has no way to the hub".to_owned()),
    }
}

/// Carries both ways until both sides have said all. `moved` hears of each piece, and says how long to wait after it; and it hears when
/// the far end has said all.
pub(super) async fn carry(
    near: impl AsyncRead + AsyncWrite,
    far: Opened,
    seat: Seat,
    moved: impl Fn(Event) -> Duration,
) -> std::io::Result<()> {
    let (near_in, near_out) = tokio::io::split(near);
    let Opened { stream, said } = far;
    let (far_in, far_out) = stream.into_split();
    let up = pump(near_in, far_out, &[], |bytes| match bytes {
        0 => Duration::ZERO,
        up => moved(Event::Carried { seat, up, down: 0 }),
    });
    let down = pump(far_in, near_out, &said, |bytes| match bytes {
        0 => moved(Event::Ended(seat)),
        down => moved(Event::Carried { seat, up: 0, down }),
    });
    tokio::try_join!(up, down).map(drop)
}

/// `moved` hears how many bytes came, those of `first` too, and 0 when no more do.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    first: &[u8],
    moved: impl Fn(u64) -> Duration,
) -> std::io::Result<()> {
    if !first.is_empty() {
        tokio::time::sleep(moved(first.len() as u64)).await;
        to.write_all(first).await?;
        to.flush().await?;
    }
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = match from.read(&mut piece).await {
            Ok(0) => {
                moved(0);
                // The other direction may have more to say.
                return to.shutdown().await;
            }
            Ok(read) => read,
            Err(error) => {
                moved(0);
                return Err(error);
            }
        };
        tokio::time::sleep(moved(read as u64)).await;
        to.write_all(&piece[..read]).await?;
        to.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hub_itself_is_meant() {
        let target = |url: &str| Target::of(&Url::parse(url).unwrap()).unwrap();
        let hub = target("https://Hub.example:8421/plant");
        for (host, port, expected) in [
            ("hub.example", Some(8421), true),
            ("HUB.example", Some(8421), true),
            ("hub.example", Some(22), false),
            ("hub.example", None, false),
            ("hub.example.", Some(8421), false),
            ("127.0.0.1", Some(8421), false),
        ] {
            assert_eq!(hub.is(host, port), expected, "{host} {port:?}");
        }
        let six = target("https://[::1]:8421");
        assert!(six.is("[::1]", Some(8421)));
        assert_eq!((six.to_string().as_str(), target("https://hub").port), ("[::1]:8421", 443));
    }
}
