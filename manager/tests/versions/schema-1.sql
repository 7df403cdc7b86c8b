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
INSERT INTO "agents" VALUES (1,X'00112233445566778899aabbccddeeff','8d969eef6ecad3c29a3a629280e686cf','router-1','0.1.0',1795736548896,NULL);
INSERT INTO "boots" VALUES (1,1,X'407e93a33fd944b2d3bd8c799549e122',1795736548896,1795736548890);
INSERT INTO "reports" VALUES (1,1,1,1,X'dcc148c44099822a8e1261139ed4caa2',1795736548896,1795736548890,1764000000100,1,0,X'',1,NULL,X'7555ed6edb36147d9581c0fe790e49c98a24603f526c58d366dd471b1468100814752db1fa204bd2b1bdc0efbe4b29566c6f758098bc24ef3de7dc43fa993c81754a0f24670ba24b07f609aa42789c5f27311d3f8cd20511350cbe987713ba644b4a16440d1ecf88ae70248f705f236cb51516704b5a654906b04e408a2a923c13914878c6530a499ac8359e969d966da1d76b07bee8310566a8a05358674ff267e28cd61d5453dc6a638e63e5bc182456a18705717be7a10ffb1bedfc20fa50ddea0d22fb8961158d89c91f0686cfd6ffc0e325a323f416ec001d2e25cb64791d614458d9e05c84ef24c6c0c678d543e09626718212755a20820764bfc024abf08f3d2e480fbd9e107bed518cb624f98a713a2af7245427ca0ec6681c82185d5b9802119d026e2b4cf17afa1899f705a26b6d51db4a0d7528a5cc534c726f37b008e3641a1f5e7ab2161210f7c3337911047c3335ac821dc939f2c721c64db3774a8a0ed77a2131b0e2f92ace29cd19cfa3385f2561c56fd012ab1179276a4c1cb32442690d3ac20b1f0a6c4ce8a8b056812d6423863a00c042ce009aaa2f0d4ed9a4495559706e044858c69774c997fc8a07cd51209657659ae7fc0a9b80ea4abd098c5c206d7745b9f73067c2b911b2053f4616c4cfeb93fafe649dd3c36131ebb1ad4fe458cd726c95857a832acfacb165336b4eb30bd2433be8ed402e39d16586a458a0f47d06e905017e8a3fe3e7e8d9e1f078dadbc92ce3a1d1eb53b32b705e0dc21f6fe9f8771598d608782bd0a4b3e08c9ce47b75480fde2a390a1ce43acff8428c4ebd3a3d3de9e9f4c68ed3a30224a09e00fe077131ef36564b3c3d80aa9b12831319652ed05e185488bc2c7329ff9fc7b14552f7a6031c0624af158e68d859f012d1ab1d4eaed244d56cca4ec9a285a0e9dbdb5a67bb0fffbcfbfdf3ddfb9b8f1f1bf5e9dbedbedc7da1f7d1f6b73b750fefd89fefd7e9beddfe8c673b7cc060288cb63ebc1469b018de9217de6799779f6edfdcac6ca9ef9f86b771e375f5b54c20c9aefffa7af7ebdf9e7db87913f75fbe99f4973a646e842b8c6b8f0f030c95d1280e267a58434af39cfd18f4799caa06df769ddee2fd54e6d4b9fc2ae2c1b9788d2bd788168e3f0a51869f849eadd4e313194f6e3e35f7b99b5b0023c2e31e76f3d5e1313464643df7e270f817');
INSERT INTO "reports" VALUES (2,1,1,2,X'460ea21c0cd9c0e19a41e9a2308041f1',1795736548905,1795736548905,1764000000100,1,0,X'',1,NULL,X'7555ed6edb36147d9581c0fe790e49c98a24603f526c58d366dd471b1468100814752db1fa204bd2b1bdc0efbe4b29566c6f758098bc24ef3de7dc43fa993c81754a0f24670ba24b07f609aa42789c5f27311d3f8cd20511350cbe987713ba644b4a16440d1ecf88ae70248f705f236cb51516704b5a654906b04e408a2a923c13914878c6530a499ac8359e969d966da1d76b07bee8310566a8a05358674ff267e28cd61d5453dc6a638e63e5bc182456a18705717be7a10ffb1bedfc20fa50ddea0d22fb8961158d89c91f0686cfd6ffc0e325a323f416ec001d2e25cb64791d614458d9e05c84ef24c6c0c678d543e09626718212755a20820764bfc024abf08f3d2e480fbd9e107bed518cb624f98a713a2af7245427ca0ec6681c82185d5b9802119d026e2b4cf17afa1899f705a26b6d51db4a0d7528a5cc534c726f37b008e3641a1f5e7ab2161210f7c3337911047c3335ac821dc939f2c721c64db3774a8a0ed77a2131b0e2f92ace29cd19cfa3385f2561c56fd012ab1179276a4c1cb32442690d3ac20b1f0a6c4ce8a8b056812d6423863a00c042ce009aaa2f0d4ed9a4495559706e044858c69774c997fc8a07cd51209657659ae7fc0a9b80ea4abd098c5c206d7745b9f73067c2b911b2053f4616c4cfeb93fafe649dd3c36131ebb1ad4fe458cd726c95857a832acfacb165336b4eb30bd2433be8ed402e39d16586a458a0f47d06e905017e8a3fe3e7e8d9e1f078dadbc92ce3a1d1eb53b32b705e0dc21f6fe9f8771598d608782bd0a4b3e08c9ce47b75480fde2a390a1ce43acff8428c4ebd3a3d3de9e9f4c68ed3a30224a09e00fe077131ef36564b3c3d80aa9b12831319652ed05e185488bc2c7329ff9fc7b14552f7a6031c0624af158e68d859f012d1ab1d4eaed244d56cca4ec9a285a0e9dbdb5a67bb0fffbcfbfdf3ddfb9b8f1f1bf5e9dbedbedc7da1f7d1f6b73b750fefd89fefd7e9beddfe8c673b7cc060288cb63ebc1469b018de9217de6799779f6edfdcac6ca9ef9f86b771e375f5b54c20c9aefffa7af7ebdf9e7db87913f75fbe99f4973a646e842b8c6b8f0f030c95d1280e267a58434af39cfd18f4799caa06df769ddee2fd54e6d4b9fc2ae2c1b9788d2bd788168e3f0a51869f849eadd4e313194f6e3e35f7b99b5b0023c2e31e76f3d5e1313464643df7e270f817');
INSERT INTO "reports" VALUES (3,1,1,3,X'70e7348707208cab389cb0ece0e5d6bb',1795736548907,1795736548907,1764000000100,1,0,X'',1,NULL,X'7555ed6edb36147d9581c0fe790e49c98a24603f526c58d366dd471b1468100814752db1fa204bd2b1bdc0efbe4b29566c6f758098bc24ef3de7dc43fa993c81754a0f24670ba24b07f609aa42789c5f27311d3f8cd20511350cbe987713ba644b4a16440d1ecf88ae70248f705f236cb51516704b5a654906b04e408a2a923c13914878c6530a499ac8359e969d966da1d76b07bee8310566a8a05358674ff267e28cd61d5453dc6a638e63e5bc182456a18705717be7a10ffb1bedfc20fa50ddea0d22fb8961158d89c91f0686cfd6ffc0e325a323f416ec001d2e25cb64791d614458d9e05c84ef24c6c0c678d543e09626718212755a20820764bfc024abf08f3d2e480fbd9e107bed518cb624f98a713a2af7245427ca0ec6681c82185d5b9802119d026e2b4cf17afa1899f705a26b6d51db4a0d7528a5cc534c726f37b008e3641a1f5e7ab2161210f7c3337911047c3335ac821dc939f2c721c64db3774a8a0ed77a2131b0e2f92ace29cd19cfa3385f2561c56fd012ab1179276a4c1cb32442690d3ac20b1f0a6c4ce8a8b056812d6423863a00c042ce009aaa2f0d4ed9a4495559706e044858c69774c997fc8a07cd51209657659ae7fc0a9b80ea4abd098c5c206d7745b9f73067c2b911b2053f4616c4cfeb93fafe649dd3c36131ebb1ad4fe458cd726c95857a832acfacb165336b4eb30bd2433be8ed402e39d16586a458a0f47d06e905017e8a3fe3e7e8d9e1f078dadbc92ce3a1d1eb53b32b705e0dc21f6fe9f8771598d608782bd0a4b3e08c9ce47b75480fde2a390a1ce43acff8428c4ebd3a3d3de9e9f4c68ed3a30224a09e00fe077131ef36564b3c3d80aa9b12831319652ed05e185488bc2c7329ff9fc7b14552f7a6031c0624af158e68d859f012d1ab1d4eaed244d56cca4ec9a285a0e9dbdb5a67bb0fffbcfbfdf3ddfb9b8f1f1bf5e9dbedbedc7da1f7d1f6b73b750fefd89fefd7e9beddfe8c673b7cc060288cb63ebc1469b018de9217de6799779f6edfdcac6ca9ef9f86b771e375f5b54c20c9aefffa7af7ebdf9e7db87913f75fbe99f4973a646e842b8c6b8f0f030c95d1280e267a58434af39cfd18f4799caa06df769ddee2fd54e6d4b9fc2ae2c1b9788d2bd788168e3f0a51869f849eadd4e313194f6e3e35f7b99b5b0023c2e31e76f3d5e1313464643df7e270f817');
INSERT INTO "agent_interfaces" VALUES (1,'eth0',2,'physical','52:54:00:12:34:56',1500,1,'up','["192.0.2.2/24","2001:db8::2/64"]',1795736548896);
INSERT INTO "agent_interfaces" VALUES (1,'wg0',5,'wireguard',NULL,1420,1,'unknown','["10.9.0.1/24"]',1795736548896);
INSERT INTO "topology_edges" VALUES ('physical:00112233445566778899aabbccddeeff/eth0:lan:52:54:00:aa:bb:cc','physical','00112233445566778899aabbccddeeff','lan:52:54:00:aa:bb:cc','member','up',1795736549905,1795736549905,NULL);
INSERT INTO "topology_edges" VALUES ('relay:00112233445566778899aabbccddeeff:manager','relay','00112233445566778899aabbccddeeff','manager','delivery','up',1795736549905,1795736549905,NULL);
INSERT INTO "topology_edges" VALUES ('wireguard:00112233445566778899aabbccddeeff/wg0:ext:xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=','wireguard','00112233445566778899aabbccddeeff','ext:xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=','external','up',1795736549905,1795736549905,NULL);
INSERT INTO "events" VALUES (1,1795736548898,'manager',NULL,NULL,'{"event":"node_appeared","node":{"id":"manager","kind":"manager","name":"manager"}}');
INSERT INTO "events" VALUES (2,1795736549905,'00112233445566778899aabbccddeeff',X'00112233445566778899aabbccddeeff',NULL,'{"event":"node_appeared","node":{"id":"00112233445566778899aabbccddeeff","kind":"agent","name":"router-1","presence":"fresh","interfaces":[{"name":"eth0","kind":"physical","up":true,"mtu":1500,"mac":"52:54:00:12:34:56","addresses":["192.0.2.2/24","2001:db8::2/64"]},{"name":"wg0","kind":"wireguard","up":true,"mtu":1420,"addresses":["10.9.0.1/24"],"on":["eth0"],"wireguard":{"public_key":"HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=","listen_port":51820}}]}}');
INSERT INTO "events" VALUES (3,1795736549905,'ext:xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=',NULL,NULL,'{"event":"node_appeared","node":{"id":"ext:xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=","kind":"external","name":"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="}}');
INSERT INTO "events" VALUES (4,1795736549905,'lan:52:54:00:aa:bb:cc',NULL,NULL,'{"event":"node_appeared","node":{"id":"lan:52:54:00:aa:bb:cc","kind":"lan","name":"LAN of 52:54:00:aa:bb:cc"}}');
INSERT INTO "events" VALUES (5,1795736549905,'physical:00112233445566778899aabbccddeeff/eth0:lan:52:54:00:aa:bb:cc',X'00112233445566778899aabbccddeeff',NULL,'{"event":"edge_appeared","edge":{"id":"physical:00112233445566778899aabbccddeeff/eth0:lan:52:54:00:aa:bb:cc","layer":"physical","ends":[{"node":"00112233445566778899aabbccddeeff","interface":"eth0"},{"node":"lan:52:54:00:aa:bb:cc"}],"relation":"member","state":"up","since":1795736549905,"seen":[true,false]}}');
INSERT INTO "events" VALUES (6,1795736549905,'relay:00112233445566778899aabbccddeeff:manager',X'00112233445566778899aabbccddeeff',NULL,'{"event":"edge_appeared","edge":{"id":"relay:00112233445566778899aabbccddeeff:manager","layer":"relay","ends":[{"node":"00112233445566778899aabbccddeeff"},{"node":"manager"}],"relation":"delivery","state":"up","since":1795736549905,"seen":[true,false]}}');
INSERT INTO "events" VALUES (7,1795736549905,'wireguard:00112233445566778899aabbccddeeff/wg0:ext:xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=',X'00112233445566778899aabbccddeeff',NULL,'{"event":"edge_appeared","edge":{"id":"wireguard:00112233445566778899aabbccddeeff/wg0:ext:xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=","layer":"wireguard","ends":[{"node":"00112233445566778899aabbccddeeff","interface":"wg0"},{"node":"ext:xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="}],"relation":"external","state":"up","since":1795736549905,"seen":[true,false],"halves":[{"peer":"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=","handshake":"live","endpoint":"[fe80::1%eth0]:51820","keepalive_s":25,"allowed_ips":["10.9.0.2/32"],"has_psk":true},null]}}');
INSERT INTO "psks" VALUES (1,'a preshared key for tests',1795736548891);
PRAGMA user_version = 1;
