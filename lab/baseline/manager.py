"""The manager as one would write it in an afternoon: plain Flask and sqlite3.

Speaks the real protocol and does the same work per report as the manager in Rust: MAC, clock,
replay, a report row, the agent, its interfaces and edges, one durable commit, a signed answer.
Nothing is made slow on purpose: WAL, executemany, a connection per request as Flask's documentation
has it.

    PSK=... DATABASE=... PORT=... python manager.py     Flask's own threaded server
    PSK=... DATABASE=... gunicorn -w 2 -b ... manager:app
"""

import base64
import binascii
import hashlib
import hmac
import json
import os
import sqlite3
import struct
import time
import zlib

from flask import Flask, g, request

DOMAIN = b"kattila/1"
SKEW_MS = 600_000
NONCES = 120
INFLATED_MAX = 512 << 10
PSK = os.environ["PSK"].encode()
DATABASE = os.environ["DATABASE"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS agents (
    agent_id TEXT PRIMARY KEY, hostname TEXT, version TEXT, os TEXT, first_seen INTEGER, last_seen INTEGER,
    boot TEXT, tick INTEGER);
CREATE TABLE IF NOT EXISTS nonces (
    agent_id TEXT, nonce TEXT, tick INTEGER, PRIMARY KEY (agent_id, nonce)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS nonces_tick ON nonces (agent_id, tick);
CREATE TABLE IF NOT EXISTS reports (
    id INTEGER PRIMARY KEY, agent_id TEXT, boot TEXT, tick INTEGER, nonce TEXT, received_at INTEGER,
    payload BLOB, UNIQUE (agent_id, boot, tick));
CREATE TABLE IF NOT EXISTS agent_interfaces (
    agent_id TEXT, name TEXT, kind TEXT, mac TEXT, mtu INTEGER, operstate TEXT, addresses TEXT,
    rx_bytes INTEGER, tx_bytes INTEGER, updated_at INTEGER, PRIMARY KEY (agent_id, name));
CREATE TABLE IF NOT EXISTS topology_edges (
    agent_id TEXT, device TEXT, peer_key TEXT, local_key TEXT, endpoint TEXT, allowed_ips TEXT,
    handshake_at INTEGER, rx_bytes INTEGER, tx_bytes INTEGER, updated_at INTEGER,
    PRIMARY KEY (agent_id, device, peer_key));
"""

app = Flask(__name__)


def connect():
    database = sqlite3.connect(DATABASE, timeout=30)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    return database


def db():
    if "db" not in g:
        g.db = connect()
    return g.db


@app.teardown_appcontext
def close(_error):
    database = g.pop("db", None)
    if database is not None:
        database.close()


def derive(kind):
    return hmac.digest(PSK, DOMAIN + kind, hashlib.sha256)


REPORT_KEY, ACK_KEY = derive(b"report"), derive(b"ack")


def sign(key, fields):
    text = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    return hmac.digest(key, text, hashlib.sha256)


def answer(header, code, status, details):
    at = int(time.time() * 1000)
    payload = json.dumps(details).encode()
    fields = [DOMAIN, b"ack", header["nonce"], header["mac"]]
    mac = sign(ACK_KEY, [*fields, struct.pack(">q", at), code.encode(), payload])
    tag = base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
    return f"k1 ack {code} {at} {tag}\n".encode() + payload, status


def unbase64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def parse(line):
    """The header line's fields; ids and the MAC as bytes."""
    magic, kind, agent, boot, tick, sent_at, nonce, encoding, mac = line.decode().split(" ")
    if magic != "k1":
        raise ValueError(magic)
    return {
        "kind": kind,
        "agent": unbase64(agent),
        "boot": unbase64(boot),
        "tick": int(tick),
        "sent_at": int(sent_at),
        "nonce": unbase64(nonce),
        "encoding": encoding,
        "mac": unbase64(mac),
    }


def is_authentic(header, payload):
    ids = [header["agent"], header["boot"]]
    numbers = [struct.pack(">Q", header["tick"]), struct.pack(">q", header["sent_at"])]
    fields = [DOMAIN, b"report", *ids, *numbers, header["nonce"], header["encoding"].encode(), payload]
    return hmac.compare_digest(sign(REPORT_KEY, fields), header["mac"])


@app.post("/status/updates")
def updates():
    head, _, payload = request.get_data().partition(b"\n")
    try:
        header = parse(head)
        authentic = header["kind"] == "report" and is_authentic(header, payload)
    except (ValueError, binascii.Error, struct.error):
        return {"error": "bad_envelope"}, 400
    if not authentic:
        return {"error": "bad_mac"}, 403
    now = int(time.time() * 1000)
    if abs(header["sent_at"] - now) > SKEW_MS:
        return answer(header, "clock_skew", 409, {})
    try:
        if header["encoding"] == "deflate":
            payload = zlib.decompressobj(-15).decompress(payload, INFLATED_MAX)
        report = json.loads(payload)
        system = report["system"]
    except (ValueError, KeyError, zlib.error):
        return answer(header, "bad_payload", 422, {})
    return store(header, payload, report, system, now)


def store(header, payload, report, system, now):
    database, tick = db(), header["tick"]
    agent, boot, nonce = (header[name].hex() for name in ("agent", "boot", "nonce"))
    database.execute("BEGIN IMMEDIATE")
    known = database.execute("SELECT 1 FROM nonces WHERE agent_id = ? AND nonce = ?", (agent, nonce))
    if known.fetchone():
        database.rollback()
        return answer(header, "already_stored", 200, {})
    try:
        database.execute(
            "INSERT INTO reports (agent_id, boot, tick, nonce, received_at, payload) VALUES (?, ?, ?, ?, ?, ?)",
            (agent, boot, tick, nonce, now, payload),
        )
    except sqlite3.IntegrityError:
        database.rollback()
        return answer(header, "replayed", 409, {})
    database.execute("INSERT INTO nonces VALUES (?, ?, ?)", (agent, nonce, tick))
    database.execute("DELETE FROM nonces WHERE agent_id = ? AND tick <= ?", (agent, tick - NONCES))
    database.execute(
        "INSERT INTO agents VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (agent_id) DO UPDATE SET"
        " hostname = excluded.hostname, version = excluded.version, os = excluded.os,"
        " last_seen = excluded.last_seen, boot = excluded.boot, tick = excluded.tick",
        (agent, system["hostname"], report["agent_version"], system["os"], now, now, boot, tick),
    )
    database.executemany(
        "INSERT INTO agent_interfaces VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (agent_id, name) DO UPDATE SET kind = excluded.kind, mac = excluded.mac, mtu = excluded.mtu,"
        " operstate = excluded.operstate, addresses = excluded.addresses, rx_bytes = excluded.rx_bytes,"
        " tx_bytes = excluded.tx_bytes, updated_at = excluded.updated_at",
        [interface_row(agent, interface, now) for interface in system["interfaces"]],
    )
    database.executemany(
        "INSERT INTO topology_edges VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (agent_id, device, peer_key) DO UPDATE SET local_key = excluded.local_key,"
        " endpoint = excluded.endpoint, allowed_ips = excluded.allowed_ips, handshake_at = excluded.handshake_at,"
        " rx_bytes = excluded.rx_bytes, tx_bytes = excluded.tx_bytes, updated_at = excluded.updated_at",
        [edge_row(agent, device, peer, now) for device in system["wireguard"] for peer in device["peers"]],
    )
    database.commit()
    return answer(header, "stored", 200, {})


def interface_row(agent, interface, now):
    counters = interface["counters"]
    addresses = json.dumps(interface.get("addresses", []))
    says = (interface["kind"], interface.get("mac"), interface["mtu"], interface["operstate"], addresses)
    return (agent, interface["name"], *says, counters["rx_bytes"], counters["tx_bytes"], now)


def edge_row(agent, device, peer, now):
    keys = (device["name"], peer["public_key"], device.get("public_key"))
    says = (peer.get("endpoint"), json.dumps(peer["allowed_ips"]), peer.get("handshake_at"))
    return (agent, *keys, *says, peer["rx_bytes"], peer["tx_bytes"], now)


@app.get("/status/healthcheck")
def healthcheck():
    return {"status": "ok", "agents": db().execute("SELECT count(*) FROM agents").fetchone()[0]}


# Stays open: SQLite would otherwise write its whole log back whenever a request is the only one.
first = connect()
first.executescript(SCHEMA)

if __name__ == "__main__":
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]), threaded=True)
