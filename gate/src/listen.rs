//! Listening sockets.

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt,
};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

/// A listening socket on `address`: SO_REUSEADDR, close-on-exec, as many connections waiting for accept as
/// the kernel allows (`net.core.somaxconn`, 4096 since Linux 5.4). std's 128 overflow in a burst, and then
/// clients wait for the second or two of a SYN retransmit. An IPv6 socket takes IPv4 too;
/// where the host has no IPv6, `[::]` falls back to `0.0.0.0`.
///
/// # Errors
/// The address is in use, not ours, or not permitted; the text names it.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match open(address) {
        Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL)
            if address.ip().is_unspecified() && address.is_ipv6() =>
        {
            let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
            log::info!("no IPv6 on this host: listening on {any} instead of {address}");
            open(any).map_err(|error| named(any, error))
        }
        result => result.map_err(|error| named(address, error)),
    }
}

fn open(address: SocketAddr) -> nix::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &false)?;
    }
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    // Not a number: `Backlog::new` refuses more than the C library's SOMAXCONN, which is 128 on musl.
    socket::listen(&fd, Backlog::MAXALLOWABLE)?;
    Ok(TcpListener::from(fd))
}

fn named(address: SocketAddr, error: Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
}

/// What an error of accept is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No one is waiting.
    Nobody,
    /// One client that is gone already, or that the network or a firewall took away (accept(2)).
    ThatClient,
    /// Descriptors or memory; or something unheard of, where a pause is the safe thing too.
    Exhausted,
}

pub(crate) fn accept_trouble(error: &io::Error) -> Trouble {
    use Errno as E;
    match error.raw_os_error().map(Errno::from_raw) {
        Some(E::EAGAIN) => Trouble::Nobody,
        Some(E::ECONNABORTED | E::EINTR | E::EPROTO | E::EPERM | E::ENOPROTOOPT | E::EOPNOTSUPP) => {
            Trouble::ThatClient
        }
        Some(E::ENETDOWN | E::EHOSTDOWN | E::ENONET | E::EHOSTUNREACH | E::ENETUNREACH | E::ETIMEDOUT) => {
            Trouble::ThatClient
        }
        _ => Trouble::Exhausted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_wildcard_socket_takes_both_families() {
        let port = listen("[::]:0".parse().unwrap()).unwrap();
        let address = port.local_addr().unwrap();
        TcpStream::connect(("127.0.0.1", address.port())).unwrap();
        if address.is_ipv6() {
            TcpStream::connect(("::1", address.port())).unwrap();
        }
    }

    #[test]
    fn an_error_names_the_address() {
        let taken = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = taken.local_addr().unwrap();
        let error = listen(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        let foreign = listen("192.0.2.1:0".parse().unwrap()).unwrap_err();
        assert!(foreign.to_string().contains("192.0.2.1:0"), "{foreign}");
    }

    #[test]
    fn only_exhaustion_pauses_accept() {
        let trouble = |errno: Errno| accept_trouble(&io::Error::from(errno));
        assert_eq!(trouble(Errno::EAGAIN), Trouble::Nobody);
        for errno in [Errno::ECONNABORTED, Errno::EPERM, Errno::ENETUNREACH] {
            assert_eq!(trouble(errno), Trouble::ThatClient, "{errno}");
        }
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM, Errno::EINVAL] {
            assert_eq!(trouble(errno), Trouble::Exhausted, "{errno}");
        }
    }
}
