"""Checks what an agent prints, without a line of its own code: test-static.py WHAT FILE..."""

import base64
import hashlib
import hmac
import json
import socket
import struct
import sys
import zlib


def sysinfo(path):
    """The report is of this host: its name, its kernel, its loopback interface."""
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    text = json.dumps(report)
    names = [interface["name"] for interface in report["system"]["interfaces"]]
    assert socket.gethostname() in text, "the host's name is not in it"
    assert "lo" in names, f"no interface lo among {names}"


def envelope(path, psk_path):
    """The message's MAC is the one that DESIGN.md says, and its payload is a report."""
    with open(path, "rb") as file:
        header, payload = file.read().split(b"\n", 1)
    with open(psk_path, "rb") as file:
        psk = file.read().strip()
    magic, kind, agent, boot, tick, sent_at, nonce, encoding, mac = header.split(b" ")
    assert magic == b"k1", f"the header begins with {magic}"
    key = hmac.new(psk, b"kattila/1" + kind, hashlib.sha256).digest()
    fields = [
        b"kattila/1",
        kind,
        unbase64(agent),
        unbase64(boot),
        struct.pack(">Q", int(tick)),
        struct.pack(">q", int(sent_at)),
        unbase64(nonce),
        encoding,
        payload,
    ]
    signed = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    assert hmac.new(key, signed, hashlib.sha256).digest() == unbase64(mac), "the MAC does not verify"
    if encoding == b"deflate":
        payload = zlib.decompress(payload, -15)
    assert "system" in json.loads(payload), "the payload is no report"


def unbase64(text):
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


def agents(list_path, agent_path, id_path):
    """The manager shows this agent online, and this host's loopback interface in its report."""
    with open(id_path, encoding="utf-8") as file:
        agent_id = file.readline().strip()
    with open(list_path, encoding="utf-8") as file:
        shown = json.load(file)["agents"]
    assert [(a["id"], a["presence"]) for a in shown] == [(agent_id, "online")], shown
    with open(agent_path, encoding="utf-8") as file:
        assert '"lo"' in json.dumps(json.load(file)), "its report has no interface lo"


if __name__ == "__main__":
    try:
        {"sysinfo": sysinfo, "envelope": envelope, "agents": agents}[sys.argv[1]](*sys.argv[2:])
    except (AssertionError, OSError, ValueError, KeyError) as error:
        sys.exit(f"{sys.argv[1]}: {type(error).__name__}: {error}")
