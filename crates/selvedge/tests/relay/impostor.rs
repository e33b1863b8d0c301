//! Somebody in a relay's place: says yes to whoever wants a tunnel, whatever is shown, and leads to another hub.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// The impostor.
pub(crate) struct Impostor {
    /// Where it stands.
    pub(crate) address: SocketAddr,
    led: Arc<AtomicUsize>,
}

impl Impostor {
    /// Leads to `hub`.
    pub(crate) fn to(hub: SocketAddr) -> Impostor {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, led) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&led);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let count = Arc::clone(&count);
                // Who hangs up is no matter.
                std::thread::spawn(move || drop(lead(near, hub, &count)));
            }
        });
        Impostor { address, led }
    }

    /// How many tunnels it has led there.
    pub(crate) fn led(&self) -> usize {
        self.led.load(SeqCst)
    }
}

fn lead(mut near: TcpStream, hub: SocketAddr, led: &AtomicUsize) -> io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        near.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if !head.starts_with(b"CONNECT ") {
        return near.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    }
    let far = TcpStream::connect(hub)?;
    near.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    led.fetch_add(1, SeqCst);
    let (mut from, mut to) = (near.try_clone()?, far.try_clone()?);
    let up = std::thread::spawn(move || {
        let copied = io::copy(&mut from, &mut to);
        // It may be gone already.
        let _ = to.shutdown(Shutdown::Write);
        copied
    });
    let (mut from, mut to) = (far, near);
    io::copy(&mut from, &mut to)?;
    to.shutdown(Shutdown::Both)?;
    up.join().map_err(|_| io::ErrorKind::Other)?.map(drop)
}
