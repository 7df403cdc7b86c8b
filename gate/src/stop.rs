//! A shutdown that can be waited for, polled, and watched by epoll.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A shutdown handle: clones share one event, which is set once and stays set.
///
/// Its descriptor turns readable when set and is never read, so any number of waiters see it.
#[derive(Debug, Clone)]
pub struct Stop {
    event: Arc<EventFd>,
}

impl Stop {
    /// A handle that is not set.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { event: Arc::new(event) })
    }

    /// Sets it, for good.
    pub fn trigger(&self) {
        // Fails only when the counter would overflow, and then it has long been set.
        let _ = self.event.write(1);
    }

    /// Whether it has been set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Sleeps until it is set, at most for `timeout`; tells whether it is.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        let start = Instant::now();
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            // Rounded up, or the last millisecond would be spent spinning.
            let millis = left.as_nanos().div_ceil(1_000_000);
            let mut fds = [PollFd::new(self.event.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)) {
                Ok(0) if start.elapsed() >= timeout => return false,
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return true,
                Err(error) => {
                    log::error!("poll on the shutdown handle: {error}");
                    return false;
                }
            }
        }
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_at_its_timeout_or_when_set() {
        let stop = Stop::new().unwrap();
        let start = Instant::now();
        assert!(!stop.wait(Duration::from_millis(30)) && !stop.is_set());
        assert!(start.elapsed() >= Duration::from_millis(30));
        let other = stop.clone();
        let waiter = std::thread::spawn(move || other.wait(Duration::from_secs(20)));
        stop.trigger();
        stop.trigger();
        assert!(waiter.join().unwrap() && stop.is_set() && stop.wait(Duration::MAX));
    }
}
