//! Interfaces and halves of edges: written when something other than a counter changed.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use proto::report::{IFF_UP, Interface, Report, WireGuardDevice, WireGuardPeer};
use rusqlite::{Connection, params};

use crate::error::StoreError;

/// A number that changes when a report's interfaces or WireGuard peers change in more than counters
/// and handshakes. Only ever compared within one run of the program.
#[must_use]
pub fn fingerprint(report: &Report) -> u64 {
    let mut hasher = DefaultHasher::new();
    for interface in &report.system.interfaces {
        let Interface { name, index, kind, mac, mtu, flags, operstate, addresses, .. } = interface;
        (name, index, kind, mac, mtu, flags, operstate, addresses).hash(&mut hasher);
    }
    for device in &report.system.wireguard {
        (&device.name, device.public_key, device.listen_port, device.fwmark).hash(&mut hasher);
        for peer in &device.peers {
            let WireGuardPeer { public_key, has_psk, endpoint, allowed_ips, keepalive_s, .. } = peer;
            (public_key, has_psk, endpoint, allowed_ips, keepalive_s).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Makes the rows of an agent's interfaces and edges those of its report. Rows that are the same
/// stay untouched.
///
/// # Errors
/// What SQLite says.
pub fn write(connection: &Connection, agent: i64, report: &Report, now: i64) -> Result<(), StoreError> {
    for interface in &report.system.interfaces {
        write_interface(connection, agent, interface, now)?;
    }
    let names: Vec<_> = report.system.interfaces.iter().map(|interface| &interface.name).collect();
    connection
        .prepare_cached(
            "DELETE FROM agent_interfaces WHERE agent = ?1 AND name NOT IN (SELECT value FROM json_each(?2))",
        )?
        .execute(params![agent, json(&names)])?;
    for device in &report.system.wireguard {
        for peer in &device.peers {
            write_edge(connection, agent, device, peer, now)?;
        }
    }
    let edges: Vec<_> = report
        .system
        .wireguard
        .iter()
        .flat_map(|device| device.peers.iter().map(move |peer| format!("{} {}", device.name, hex(peer))))
        .collect();
    connection
        .prepare_cached(
            "DELETE FROM topology_edges WHERE agent = ?1 AND layer = 'wireguard'
             AND device || ' ' || lower(hex(remote_key)) NOT IN (SELECT value FROM json_each(?2))",
        )?
        .execute(params![agent, json(&edges)])?;
    Ok(())
}

fn write_interface(
    connection: &Connection,
    agent: i64,
    interface: &Interface,
    now: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO agent_interfaces
        (agent, name, idx, kind, mac, mtu, up, operstate, addresses, since)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
        ON CONFLICT (agent, name) DO UPDATE SET idx = excluded.idx, kind = excluded.kind,
          mac = excluded.mac, mtu = excluded.mtu, up = excluded.up,
          operstate = excluded.operstate, addresses = excluded.addresses, since = excluded.since
        WHERE (idx, kind, mac, mtu, up, operstate, addresses) IS NOT
          (excluded.idx, excluded.kind, excluded.mac, excluded.mtu, excluded.up,
           excluded.operstate, excluded.addresses)";
    connection.prepare_cached(sql)?.execute(params![
        agent,
        interface.name,
        interface.index,
        json(&interface.kind).trim_matches('"'),
        interface.mac,
        interface.mtu,
        interface.flags & IFF_UP != 0,
        interface.operstate,
        json(&interface.addresses),
        now,
    ])?;
    Ok(())
}

fn write_edge(
    connection: &Connection,
    agent: i64,
    device: &WireGuardDevice,
    peer: &WireGuardPeer,
    now: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO topology_edges
        (agent, layer, device, local_key, remote_key, endpoint, allowed_ips, keepalive_s, has_psk,
         first_seen, since)
        VALUES (?1, 'wireguard', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)
        ON CONFLICT (agent, layer, device, remote_key) DO UPDATE SET local_key = excluded.local_key,
          endpoint = excluded.endpoint, allowed_ips = excluded.allowed_ips,
          keepalive_s = excluded.keepalive_s, has_psk = excluded.has_psk, since = excluded.since
        WHERE (local_key, endpoint, allowed_ips, keepalive_s, has_psk) IS NOT
          (excluded.local_key, excluded.endpoint, excluded.allowed_ips, excluded.keepalive_s,
           excluded.has_psk)";
    connection.prepare_cached(sql)?.execute(params![
        agent,
        device.name,
        device.public_key.map(|key| key.0),
        peer.public_key.0,
        peer.endpoint,
        json(&peer.allowed_ips),
        peer.keepalive_s,
        peer.has_psk,
        now,
    ])?;
    Ok(())
}

fn hex(peer: &WireGuardPeer) -> String {
    proto::ids::to_hex(&peer.public_key.0)
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("lists of plain data")
}
