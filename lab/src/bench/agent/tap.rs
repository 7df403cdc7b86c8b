//! A door to the manager that counts what goes through it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::{Error, Host, Result};

/// Passes connections on to the manager; TCP payload of both directions is counted. It lives as long
/// as the process.
#[derive(Debug, Clone)]
pub(super) struct Tap {
    /// Where the agent finds it.
    pub(super) address: SocketAddr,
    count: Arc<Count>,
}

#[derive(Debug, Default)]
struct Count {
    bytes: AtomicU64,
    exchanges: AtomicU64,
}

impl Tap {
    /// Opens the door on the first address of `host`, where the manager listens at `manager`.
    ///
    /// # Errors
    /// When there is no port.
    pub(super) fn open(host: &Host, manager: SocketAddr) -> Result<Self> {
        let listener = host.inside(|| TcpListener::bind((host.address(), 0)))?;
        let listener = listener.map_err(Error::io("a port for the agent's reports"))?;
        let address = listener.local_addr().map_err(Error::io("own port"))?;
        let count = Arc::<Count>::default();
        let (door, counter) = (host.door()?, Arc::clone(&count));
        thread::spawn(move || {
            for agent in listener.incoming().flatten() {
                let Ok(Ok(manager)) = door.inside(|| TcpStream::connect(manager)) else { continue };
                let counter = Arc::clone(&counter);
                thread::spawn(move || exchange(&agent, &manager, &counter));
            }
        });
        Ok(Self { address, count })
    }

    /// Bytes so far, both directions.
    pub(super) fn bytes(&self) -> u64 {
        self.count.bytes.load(Ordering::Relaxed)
    }

    /// Connections that are through.
    pub(super) fn exchanges(&self) -> u64 {
        self.count.exchanges.load(Ordering::Relaxed)
    }
}

/// Copies both ways until both ends are through.
fn exchange(agent: &TcpStream, manager: &TcpStream, count: &Count) {
    thread::scope(|scope| {
        scope.spawn(|| copy(agent, manager, &count.bytes));
        copy(manager, agent, &count.bytes);
    });
    count.exchanges.fetch_add(1, Ordering::Relaxed);
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, counter: &AtomicU64) {
    // Longer than any honest exchange: a lost end must not keep threads.
    let _ = from.set_read_timeout(Some(Duration::from_secs(30)));
    let mut chunk = [0; 16 << 10];
    while let Ok(count) = from.read(&mut chunk) {
        if count == 0 || to.write_all(&chunk[..count]).is_err() {
            break;
        }
        counter.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
    }
    let _ = to.shutdown(Shutdown::Write);
}
