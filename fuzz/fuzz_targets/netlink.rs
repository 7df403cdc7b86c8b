//! Any bytes as what a netlink socket gave: no panic, no more rows than bytes, and what one parser of
//! routes finds is within its family.
#![no_main]

use kattila_agent::parse::netlink::dump::Dump;
use kattila_agent::parse::netlink::{
    INET, INET6, Messages, address, family, link, neighbour, route, rule, wireguard,
};
use libfuzzer_sys::fuzz_target;
use proto::report::WireGuardDevice;

fuzz_target!(|bytes: &[u8]| {
    for kind in [link::NEW, route::NEW, rule::NEW, neighbour::NEW, address::NEW, family::CONTROL, 33] {
        let mut dump = Dump { kind, ..Dump::default() };
        let mut rows = 0;
        let _ = dump.read(bytes, &mut |body| {
            rows += 1;
            parse_all(body);
            Ok(())
        });
        assert!(rows == dump.rows && rows <= bytes.len());
    }
    // As the inside of a message too, so that none of it waits for a header to be found.
    parse_all(bytes);
    assert!(Messages::new(bytes).count() <= bytes.len());
});

fn parse_all(body: &[u8]) {
    for family in [INET, INET6] {
        let mut rows = 0;
        let _ = route::rows(family, body, |route, _| {
            rows += 1;
            assert_eq!(route.destination.address().is_ipv6(), family == INET6);
        });
        assert!(rows <= body.len());
    }
    let _ = (link::row(body).is_ok(), neighbour::row(body).is_ok(), rule::row(body).is_ok());
    let _ = (address::row(body).is_ok(), family::row(body).is_ok());
    let mut device = WireGuardDevice::default();
    let _ = wireguard::row(body, &mut device);
    let rows = device.peers.iter().map(|peer| 1 + peer.allowed_ips.len()).sum::<usize>();
    assert!(rows <= body.len());
}
