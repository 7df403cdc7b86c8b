//! Interfaces: written when something other than a counter changed.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use proto::report::{IFF_UP, Interface, Report};
use rusqlite::{Connection, params};

use crate::error::StoreError;

/// A number that changes when a report's interfaces change in more than counters. Only ever compared within one run of the program.
#[must_use]
pub fn fingerprint(report: &Report) -> u64 {
    let mut hasher = DefaultHasher::new();
    for interface in &report.system.interfaces {
        let Interface { name, index, kind, mac, mtu, flags, operstate, addresses, .. } = interface;
        (name, index, kind, mac, mtu, flags, operstate, addresses).hash(&mut hasher);
    }
    hasher.finish()
}

/// Makes the rows of an agent's interfaces those of its report. Rows that are the same
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

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("lists of plain data")
}
