"""The manager as one would write it in an afternoon: plain Flask and sqlite3.

Speaks the real protocol and does the same work per report as the manager in Rust: MAC, clock,
replay, a report row, the agent, its interfaces and edges, one durable commit, a signed answer.
Nothing is made slow on purpose: WAL, executemany, a connection per request as Flask's documentation
has it.

    PSK=... DATABASE=... PORT=... python manager.py     Flask's own threaded server
    PSK=... DATABASE=... gunicorn -w 2 -b ... manager:app
"""

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
    fields = [DOMAIN, b"ack", bytes.fromhex(header["nonce"]), bytes.fromhex(header["mac"])]
    mac = sign(ACK_KEY, [*fields, struct.pack(">q", at), code.encode(), payload])
    head = {"v": 1, "kind": "ack", "nonce": header["nonce"], "at": at, "code": code, "mac": mac.hex()}
    return json.dumps(head).encode() + b"\n" + payload, status


def is_authentic(header, payload):
    ids = [bytes.fromhex(header[name]) for name in ("agent", "boot")]
    numbers = [struct.pack(">Q", header["tick"]), struct.pack(">q", header["sent_at"])]
    encoding = header.get("encoding", "json").encode()
    fields = [DOMAIN, b"report", *ids, *numbers, bytes.fromhex(header["nonce"]), encoding, payload]
    return hmac.compare_digest(sign(REPORT_KEY, fields), bytes.fromhex(header["mac"]))


@app.post("/status/updates")
def updates():
    head, _, payload = request.get_data().partition(b"\n")
    try:
        header = json.loads(head)
        authentic = header["kind"] == "report" and is_authentic(header, payload)
    except (ValueError, KeyError, struct.error):
        return {"error": "bad_envelope"}, 400
    if not authentic:
        return {"error": "bad_mac"}, 403
    now = int(time.time() * 1000)
    if abs(header["sent_at"] - now) > SKEW_MS:
        return answer(header, "clock_skew", 409, {})
    try:
        if header.get("encoding") == "deflate":
            payload = zlib.decompressobj(-15).decompress(payload, INFLATED_MAX)
        report = json.loads(payload)
        system = report["system"]
    except (ValueError, KeyError, zlib.error):
        return answer(header, "bad_payload", 422, {})
    return store(header, payload, report, system, now)


def store(header, payload, report, system, now):
    database, agent, tick = db(), header["agent"], header["tick"]
    database.execute("BEGIN IMMEDIATE")
    known = database.execute("SELECT 1 FROM nonces WHERE agent_id = ? AND nonce = ?", (agent, header["nonce"]))
    if known.fetchone():
        database.rollback()
        return answer(header, "already_stored", 200, {"top": tick})
    try:
        database.execute(
            "INSERT INTO reports (agent_id, boot, tick, nonce, received_at, payload) VALUES (?, ?, ?, ?, ?, ?)",
            (agent, header["boot"], tick, header["nonce"], now, payload),
        )
    except sqlite3.IntegrityError:
        database.rollback()
        return answer(header, "replayed", 409, {})
    database.execute("INSERT INTO nonces VALUES (?, ?, ?)", (agent, header["nonce"], tick))
    database.execute("DELETE FROM nonces WHERE agent_id = ? AND tick <= ?", (agent, tick - NONCES))
    database.execute(
        "INSERT INTO agents VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (agent_id) DO UPDATE SET"
        " hostname = excluded.hostname, version = excluded.version, os = excluded.os,"
        " last_seen = excluded.last_seen, boot = excluded.boot, tick = excluded.tick",
        (agent, system["hostname"], report["agent_version"], system["os"], now, now, header["boot"], tick),
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
    return answer(header, "stored", 200, {"top": tick})


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
