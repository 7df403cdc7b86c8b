//! The tables, a comment per column, and the steps from one version of them to the next.

use rusqlite::Connection;

use crate::error::StoreError;

/// One step per schema version: step N brings a database from version N to N + 1.
const STEPS: [&str; 1] = [V1];

/// Times are milliseconds since the Unix epoch on the manager's clock unless a comment says otherwise.
const V1: &str = "
CREATE TABLE agents (
    no         INTEGER PRIMARY KEY,  -- short number that the other tables refer to
    id         BLOB NOT NULL UNIQUE, -- agent id, 16 bytes
    hardware   TEXT NOT NULL,        -- hash that names its hardware; '' when it never told
    hostname   TEXT NOT NULL,        -- its own name, a label
    version    TEXT NOT NULL,        -- version of its program
    first_seen INTEGER NOT NULL,     -- when it was first heard of
    reset_at   INTEGER               -- what it reported up to then is hidden; NULL: nothing is
) STRICT;

CREATE TABLE boots (
    no            INTEGER PRIMARY KEY,                    -- short number
    agent         INTEGER NOT NULL REFERENCES agents(no), -- whose start it is
    id            BLOB NOT NULL,                          -- boot id, 16 bytes
    first_seen    INTEGER NOT NULL,                       -- when its first message came
    first_sent_at INTEGER NOT NULL,                       -- least sent_at of its messages, sender's clock as corrected
    UNIQUE (agent, id)
) STRICT;

CREATE TABLE reports (
    no          INTEGER PRIMARY KEY,                    -- order of arrival
    agent       INTEGER NOT NULL REFERENCES agents(no), -- who reported
    boot        INTEGER NOT NULL,                       -- which start of it (boots.no)
    tick        INTEGER NOT NULL,                       -- its number in that start
    nonce       BLOB NOT NULL,                          -- its name, 16 bytes
    received_at INTEGER NOT NULL,                       -- when it came
    sent_at     INTEGER NOT NULL,                       -- when it was signed, sender's clock as corrected
    observed_at INTEGER NOT NULL,                       -- when the host was read, sender's clock as corrected
    psk         INTEGER NOT NULL,                       -- generation of the PSK that signed it
    late        INTEGER NOT NULL,                       -- 1: it came after a later one; history only
    path        BLOB NOT NULL,                          -- ids of the relays that it passed, 16 bytes each, first to last
    encoding    INTEGER NOT NULL,                       -- of the payload: 0 JSON, 1 deflated, 2 difference to another report
    base        INTEGER,                                -- that other report (reports.no), which is none itself
    payload     BLOB NOT NULL,                          -- as it came; what it stands for is JSON, byte for byte
    UNIQUE (agent, boot, tick)                          -- a report is stored once, whatever way it came
) STRICT;

CREATE TABLE agent_interfaces (
    agent     INTEGER NOT NULL REFERENCES agents(no), -- whose interface
    name      TEXT NOT NULL,                          -- its name
    idx       INTEGER NOT NULL,                       -- its index
    kind      TEXT NOT NULL,                          -- what it is, as in the report
    mac       TEXT,                                   -- link-layer address
    mtu       INTEGER NOT NULL,                       -- largest packet, bytes
    up        INTEGER NOT NULL,                       -- 1: administratively up
    operstate TEXT NOT NULL,                          -- RFC 2863 state
    addresses TEXT NOT NULL,                          -- JSON array of addresses with prefix length
    since     INTEGER NOT NULL,                       -- when this row last changed
    PRIMARY KEY (agent, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE topology_edges (
    id         TEXT PRIMARY KEY, -- LAYER:END:END, as the API has it
    layer      TEXT NOT NULL,    -- 'physical', 'wireguard', 'overlay' or 'relay'
    a          TEXT NOT NULL,    -- id of the node at its first end
    b          TEXT NOT NULL,    -- id of the node at its second end
    relation   TEXT NOT NULL,    -- how its ends belong together, as the API has it
    state      TEXT NOT NULL,    -- its state, or the last one that it had
    since      INTEGER NOT NULL, -- when it came to that state
    first_seen INTEGER NOT NULL, -- when it was first there
    gone_at    INTEGER           -- when it went; NULL: it is there
) STRICT, WITHOUT ROWID;

CREATE INDEX topology_edges_gone ON topology_edges (gone_at) WHERE gone_at IS NOT NULL;

CREATE TABLE events (
    no      INTEGER PRIMARY KEY, -- order
    at      INTEGER NOT NULL,    -- when the manager noticed
    subject TEXT NOT NULL,       -- id of the node or edge that changed
    agent_a BLOB,                -- id of an agent that it concerns, 16 bytes; NULL: none
    agent_b BLOB,                -- id of a second one
    event   TEXT NOT NULL        -- the change as JSON; with those before it, it makes the map of its moment
) STRICT;

CREATE INDEX events_at ON events (at);
CREATE INDEX events_subject ON events (subject, no);
CREATE INDEX events_agent_a ON events (agent_a, no) WHERE agent_a IS NOT NULL;
CREATE INDEX events_agent_b ON events (agent_b, no) WHERE agent_b IS NOT NULL;

CREATE TABLE maps (
    event INTEGER PRIMARY KEY, -- the last event in it (events.no); 0: before the first
    at    INTEGER NOT NULL,    -- when it was so
    map   BLOB NOT NULL        -- the whole map's structure, deflated JSON
) STRICT;

CREATE TABLE alarms (
    no            INTEGER PRIMARY KEY, -- short number, by which it is acknowledged
    code          TEXT NOT NULL,       -- which rule
    subject       TEXT NOT NULL,       -- what it is about, such as an agent id
    severity      TEXT NOT NULL,       -- 'info', 'warning' or 'critical'
    state         TEXT NOT NULL,       -- 'pending', 'firing', 'acknowledged', 'suppressed' or 'resolved'
    since         INTEGER NOT NULL,    -- when it came to this state
    found_at      INTEGER NOT NULL,    -- when its present episode was first found
    fired_at      INTEGER,             -- when its present episode fired; NULL: not yet
    clear_since   INTEGER,             -- since when it is no longer found; NULL: it is
    acked_at      INTEGER,             -- when its present episode was acknowledged; NULL: it was not
    suppressed_by TEXT,                -- what covers it: CODE SUBJECT, or a silence; NULL: nothing
    told          INTEGER NOT NULL,    -- 1: its present episode was put into the outbox
    sentence      TEXT NOT NULL,       -- one sentence for people
    cause         TEXT NOT NULL,       -- the likely cause
    next_step     TEXT NOT NULL,       -- what to do next
    evidence      TEXT NOT NULL,       -- JSON array of what says so
    agents        TEXT NOT NULL,       -- JSON array of the ids of the agents that it concerns
    under         TEXT NOT NULL,       -- JSON array of subjects whose trouble explains it
    transitions   TEXT NOT NULL,       -- JSON array of when it fired and was resolved lately
    interval_s    INTEGER NOT NULL,    -- seconds between the reports that it rests on
    version       INTEGER NOT NULL,    -- grows with every change: a change names the one before
    UNIQUE (code, subject)
) STRICT;

CREATE INDEX alarms_state ON alarms (state, since);

CREATE TABLE alarm_history (
    no       INTEGER PRIMARY KEY, -- order
    alarm    INTEGER NOT NULL,    -- which alarm (alarms.no)
    at       INTEGER NOT NULL,    -- when it came to the state
    state    TEXT NOT NULL,       -- the state
    severity TEXT NOT NULL,       -- how bad it was
    by       TEXT,                -- what covered it then; NULL: nothing
    sentence TEXT NOT NULL        -- its sentence then
) STRICT;

CREATE INDEX alarm_history_alarm ON alarm_history (alarm, no);
CREATE INDEX alarm_history_at ON alarm_history (at);

CREATE TABLE silences (
    target TEXT PRIMARY KEY, -- a code, or an agent's id
    until  INTEGER NOT NULL  -- until when its alarms are not told
) STRICT, WITHOUT ROWID;

CREATE TABLE old_keys (
    key       BLOB PRIMARY KEY, -- a WireGuard public key, 32 bytes, that an interface had before
    agent     BLOB NOT NULL,    -- id of the agent, 16 bytes
    interface TEXT NOT NULL,    -- the interface's name
    until     INTEGER NOT NULL  -- when another took its place
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    no       INTEGER PRIMARY KEY, -- order, in which each receiver gets them
    target   TEXT NOT NULL,       -- URL of the receiver
    at       INTEGER NOT NULL,    -- when it happened
    event    TEXT NOT NULL,       -- the alarm as it was, as JSON
    batch    INTEGER,             -- no of the first one of the message that it goes in; NULL: in none yet
    attempts INTEGER NOT NULL,    -- how often that message was sent
    next_at  INTEGER NOT NULL     -- not to be sent before; also the deadline of who is sending it now
) STRICT;

CREATE INDEX outbox_target ON outbox (target, no);

CREATE TABLE psks (
    generation INTEGER PRIMARY KEY,  -- grows with every rotation
    secret     TEXT NOT NULL UNIQUE, -- the PSK; why the file has mode 0600
    since      INTEGER NOT NULL      -- when it became the current one
) STRICT;
";

/// The schema version that this program writes.
pub(super) fn known() -> u32 {
    u32::try_from(STEPS.len()).expect("a handful of steps")
}

/// Brings the database to this program's schema version.
///
/// # Errors
/// [`StoreError::Later`] when a later program wrote it, or what SQLite says.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let known = known();
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(StoreError::Later { found, known });
    }
    for version in found..known {
        let step = STEPS[usize::try_from(version).expect("a handful of steps")];
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version + 1)?;
        transaction.commit()?;
    }
    Ok(())
}
