//! The publisher: MQTT 3.1.1 by hand, so that it costs little beside what is measured. It sends each message when it is due, and after a
//! broken connection again from the first that was not acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use wire::world::{Clock as _, System};

use crate::peers::cpu_s;

/// Each so many messages the rule changes its mind.
const TURN: u64 = 1_000;
/// The most messages without acknowledgement.
const AHEAD: u64 = 20_000;
/// Packets have these numbers, in turn; 0 is none.
const IDS: u64 = 65_535;
/// What is due goes out in pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;

/// What to publish, and where.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) port: u16,
    /// Messages a second.
    pub(crate) rate: u64,
    pub(crate) total: u64,
    /// When the first is due.
    pub(crate) began_ms: i64,
}

/// What it took.
pub(crate) struct Published {
    /// Of this thread.
    pub(crate) cpu_s: f64,
}

/// Publishes all; returns when the broker has acknowledged them.
pub(crate) fn publish(plan: &Plan) -> Published {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (world, acked) = (System::new(), Arc::new(AtomicU64::new(0)));
    runtime.block_on(async {
        while acked.load(SeqCst) < plan.total {
            if send(plan, &world, &acked).await.is_err() {
                // The broker is away.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    Published { cpu_s: cpu_s("thread-self") }
}

/// One connection, until all is acknowledged or it breaks.
async fn send(plan: &Plan, world: &System, acked: &Arc<AtomicU64>) -> std::io::Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", plan.port)).await?;
    stream.set_nodelay(true)?;
    let (mut from, mut to) = stream.into_split();
    // CONNECT, level 4, clean session, no keep-alive, client "load".
    to.write_all(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04load").await?;
    let mut taken = [0; 4];
    from.read_exact(&mut taken).await?;
    assert_eq!(taken, [0x20, 2, 0, 0], "the broker takes us in");

    let first = acked.load(SeqCst);
    let hearing = tokio::spawn(hear(from, Arc::clone(acked)));
    let (mut n, mut piece) = (first, Vec::with_capacity(2 * PIECE_BYTES));
    while !hearing.is_finished() && acked.load(SeqCst) < plan.total {
        let gone_ms = u64::try_from(world.wall_ms() - plan.began_ms).unwrap_or(0);
        let due = (gone_ms * plan.rate / 1_000 + 1).min(plan.total).min(acked.load(SeqCst) + AHEAD);
        while n < due && piece.len() < PIECE_BYTES {
            write(&mut piece, plan, n);
            n += 1;
        }
        if piece.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        to.write_all(&piece).await?;
        piece.clear();
        tokio::task::yield_now().await;
    }
    hearing.abort();
    Ok(())
}

/// One PUBLISH at QoS 1.
fn write(piece: &mut Vec<u8>, plan: &Plan, n: u64) {
    use std::io::Write as _;

    const TOPIC: &[u8] = b"plant/1";
    let due_ms = plan.began_ms + (n * 1_000 / plan.rate) as i64;
    let turn = u64::from(n / TURN % 2 == 1);
    let wave = (n as f64 / 50.0).sin();
    let id = (n % IDS + 1) as u16;
    let begun = piece.len();
    piece.extend([0x32, 0]);
    piece.extend((TOPIC.len() as u16).to_be_bytes());
    piece.extend(TOPIC);
    piece.extend(id.to_be_bytes());
    write!(piece, "{{\"ts\":{due_ms},\"n\":{n},\"p\":{wave:.4},\"t\":{turn}}}").unwrap();
    let length = piece.len() - begun - 2;
    assert!(length < 128, "one byte holds its length");
    piece[begun + 1] = length as u8;
}

/// Counts acknowledgements, which come in the order of the messages.
async fn hear(mut from: OwnedReadHalf, acked: Arc<AtomicU64>) {
    let (mut bytes, mut held) = (vec![0; 64 << 10], 0);
    while let Ok(read @ 1..) = from.read(&mut bytes[held..]).await {
        let whole = (held + read) / 4 * 4;
        for ack in bytes[..whole].chunks_exact(4) {
            let n = acked.load(SeqCst);
            assert_eq!(ack[..2], [0x40, 2], "the broker sends nothing but acknowledgements");
            assert_eq!(u64::from(u16::from_be_bytes([ack[2], ack[3]])), n % IDS + 1, "in order");
            acked.store(n + 1, SeqCst);
        }
        bytes.copy_within(whole..held + read, 0);
        held = held + read - whole;
    }
}
