//! Lines of text from a stream of bytes, each a payload: what a program prints, what comes over a serial line.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::time::{sleep, timeout};

use super::bring::SourceError;
use super::funnel::Funnel;
use super::queue::{Inlet, Stopped};

/// Cuts a stream into lines, none of which is held beyond `most` bytes.
pub(super) struct Lines<R> {
    from: BufReader<R>,
    line: Vec<u8>,
    most: usize,
    /// The line under way is too long: its rest is thrown away.
    skipping: bool,
}

/// What a stream gave.
pub(super) enum Line {
    /// A line, without its end.
    Whole(Vec<u8>),
    /// One that was too long.
    TooLong,
    /// No more.
    End,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(from: R, most: usize) -> Lines<R> {
        Lines { from: BufReader::new(from), line: Vec::new(), most, skipping: false }
    }

    /// The next line. Nothing is lost if the caller stops waiting for it.
    pub(super) async fn next(&mut self) -> std::io::Result<Line> {
        loop {
            let bytes = self.from.fill_buf().await?;
            if bytes.is_empty() {
                // What stands there without an end was cut off.
                return Ok(Line::End);
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(bytes.len(), |at| at + 1);
            if !self.skipping {
                self.line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
            }
            self.from.consume(taken);
            if self.line.len() > self.most {
                self.line = Vec::new();
                self.skipping = true;
            }
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                return Ok(if std::mem::take(&mut self.skipping) {
                    Line::TooLong
                } else {
                    Line::Whole(line)
                });
            }
        }
    }
}

/// Takes lines until the stream ends, breaks, is silent for longer than `silence`, or the node stops.
pub(super) async fn attend<R: AsyncRead + Unpin>(
    lines: &mut Lines<R>,
    place: &str,
    funnel: &mut Funnel,
    silence: Option<Duration>,
    inlet: &mut Inlet,
) -> Result<(), SourceError> {
    loop {
        if inlet.stopping() {
            return Err(Stopped.into());
        }
        let room = funnel.hand_over(inlet)?;
        let due = funnel.due(inlet);
        tokio::select! {
            biased;
            line = wait(lines, silence), if room => match line? {
                Line::Whole(line) => {
                    let line = line.trim_ascii();
                    if !line.is_empty() {
                        funnel.take(place, line, inlet)?;
                    }
                }
                Line::TooLong => {
                    let why = format!("a line has more than {} bytes", lines.most);
                    funnel.refuse(place, &why, inlet)?;
                }
                Line::End => {
                    funnel.close();
                    funnel.hand_over(inlet)?;
                    return Ok(());
                }
            },
            () = inlet.stirred() => {}
            () = sleep(due.unwrap_or_default()), if due.is_some() => {}
        }
    }
}

async fn wait<R: AsyncRead + Unpin>(
    lines: &mut Lines<R>,
    silence: Option<Duration>,
) -> Result<Line, SourceError> {
    let broken = |error: std::io::Error| SourceError::Outside(format!("it cannot be read: {error}"));
    match silence {
        None => lines.next().await.map_err(broken),
        Some(silence) => match timeout(silence, lines.next()).await {
            Ok(line) => line.map_err(broken),
            Err(_) => Err(SourceError::Outside(format!("it said nothing for {} s", silence.as_secs_f64()))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let text = [b"one\r\n\nlong ".as_slice(), &vec![b'x'; 20_000], b" end\ntwo\ncut off"].concat();
            let mut lines = Lines::new(text.as_slice(), 100);
            let mut found = Vec::new();
            loop {
                match lines.next().await.unwrap() {
                    Line::Whole(line) => found.push(String::from_utf8(line).unwrap()),
                    Line::TooLong => found.push("too long".to_owned()),
                    Line::End => break,
                }
            }
            assert_eq!(found, ["one\r", "", "too long", "two"]);
            assert!(lines.line.capacity() < 200);
        });
    }
}
