//! The thin line: carries connections to the hub, counts what goes over it, and can be cut and mended.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// A line to the hub.
pub(crate) struct Line {
    /// Its near end.
    pub(crate) address: SocketAddr,
    wire: Arc<Wire>,
}

#[derive(Default)]
struct Wire {
    bytes: AtomicU64,
    is_cut: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Line {
    /// Lays it.
    pub(crate) fn to(hub: SocketAddr) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, wire) = (listener.local_addr().unwrap(), Arc::new(Wire::default()));
        let carried = Arc::clone(&wire);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let wire = Arc::clone(&carried);
                if !wire.is_cut.load(SeqCst) {
                    std::thread::spawn(move || carry(&wire, near, hub));
                }
            }
        });
        Line { address, wire }
    }

    /// How many bytes went over it, both ways.
    pub(crate) fn bytes(&self) -> u64 {
        self.wire.bytes.load(SeqCst)
    }

    /// Cuts it: what is open breaks, and nothing opens.
    pub(crate) fn cut(&self) {
        self.wire.is_cut.store(true, SeqCst);
        for stream in self.wire.open.lock().unwrap().drain(..) {
            // It may be gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Mends it.
    pub(crate) fn mend(&self) {
        self.wire.is_cut.store(false, SeqCst);
    }
}

fn carry(wire: &Arc<Wire>, near: TcpStream, hub: SocketAddr) {
    let Ok(far) = TcpStream::connect(hub) else { return };
    let ends = [&near, &far].map(|end| end.try_clone().unwrap());
    {
        let mut open = wire.open.lock().unwrap();
        // What was taken just before the cut does not outlive it.
        if wire.is_cut.load(SeqCst) {
            return;
        }
        open.extend(ends);
    }
    let (up, from, to) = (Arc::clone(wire), near.try_clone().unwrap(), far.try_clone().unwrap());
    std::thread::spawn(move || pump(&up, from, to));
    pump(wire, far, near);
}

fn pump(wire: &Wire, mut from: TcpStream, mut to: TcpStream) {
    let mut piece = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        wire.bytes.fetch_add(read as u64, SeqCst);
        if to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    // It may be gone already.
    let _ = to.shutdown(Shutdown::Write);
}
