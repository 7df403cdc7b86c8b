// Made-up fleets that report to a manager: hosts on LANs behind routers, with WireGuard tunnels between them.

import { randomBytes } from 'node:crypto';
import { idOf, keyOf, post, seal } from './agent.mjs';

const UP = 0x41; // IFF_UP | IFF_RUNNING

const ip = (n) => `10.${90 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;
const mac = (n, kind = 0) => ['02', kind, (n >> 24) & 255, (n >> 16) & 255, (n >> 8) & 255, n & 255].map((part) => (typeof part === 'string' ? part : part.toString(16).padStart(2, '0'))).join(':');

export class Fleet {
  constructor(base, psk, interval = 30) {
    Object.assign(this, { base, psk, interval, hosts: [], tunnels: [], begun: Date.now() });
  }

  /** A host in a site; sites have a public address and a LAN of their own. */
  host(name, site, extra = {}) {
    const number = this.hosts.length + 1;
    const host = { name, id: idOf(name), boot: randomBytes(16).toString('hex'), tick: 0, number, site, silent: false, traffic: 1, ...extra };
    this.hosts.push(host);
    return host;
  }

  /** A tunnel; `broken` makes it handshake no more, `oneSided` leaves out the second end's peer. */
  tunnel(a, b, extra = {}) {
    const tunnel = { a, b, broken: false, oneSided: false, device: 'wg0', handshake: 30, keepalive: 25, rx: 1_000_000, tx: 1_000_000, ...extra };
    this.tunnels.push(tunnel);
    return tunnel;
  }

  report(host, observedAt = Date.now()) {
    const mine = this.tunnels.filter((t) => t.a === host || (t.b === host && !t.oneSided));
    const gateway = host.site == null ? null : `192.168.${host.site % 250}.1`;
    const lan = host.site == null ? null : `192.168.${host.site % 250}.${1 + (host.lan ?? host.number % 250)}`;
    const router = gateway && host.lan === 0;
    // Seconds for which bytes have been counted: all counters grow with time, so that rates mean something.
    const time = 36_000 + Math.round((observedAt - this.begun) / 1000);
    const counters = (scale) => ({ rx_bytes: Math.round(4e4 * scale * (time + 60 * Math.sin(time / 100))), rx_packets: 50 * time, tx_bytes: Math.round(2e4 * scale * time), tx_packets: 40 * time });
    const link = (name, index, kind, more) => ({ name, index, kind, mtu: kind === 'wireguard' ? 1420 : 1500, flags: UP, operstate: 'up', counters: counters(host.traffic), ...more });
    const devices = [...new Set(mine.map((t) => t.device))];
    const wireguard = devices.map((name) => ({
      name, public_key: keyOf(`${host.name} ${name}`), listen_port: 51820 + devices.indexOf(name),
      peers: mine.filter((t) => t.device === name).map((t) => this.peer(host, t, time, observedAt)),
    }));
    // What comes out of a tunnel came from its peers.
    const sum = (peers, key) => peers.reduce((total, peer) => total + peer[key], 0);
    const carried = (peers) => ({ rx_bytes: sum(peers, 'rx_bytes'), rx_packets: 9 * time, tx_bytes: sum(peers, 'tx_bytes'), tx_packets: 9 * time });
    const interfaces = [
      { name: 'lo', index: 1, kind: 'loopback', mtu: 65536, flags: 0x49, operstate: 'unknown', addresses: ['127.0.0.1/8'], counters: counters(0.01) },
      link('eth0', 2, 'physical', { mac: router ? mac(host.site, 1) : mac(host.number), addresses: lan ? [`${lan}/24`] : [`${this.publicOf(host)}/24`] }),
      ...(router ? [link('wan0', 9, 'physical', { mac: mac(host.number), addresses: [`${this.publicOf(host)}/24`] })] : []),
      ...devices.map((name, i) => link(name, 3 + i, 'wireguard', { addresses: [`${ip(host.number + i * 65536)}/16`], counters: carried(wireguard[i].peers) })),
      ...(host.interfaces ?? []),
    ];
    const routes = [
      router
        ? { destination: '0.0.0.0/0', gateway: '198.51.0.254', interface: 'wan0', metric: 100 }
        : { destination: '0.0.0.0/0', gateway: gateway ?? '203.0.113.1', interface: 'eth0', metric: 100 },
      ...(lan ? [{ destination: `192.168.${host.site % 250}.0/24`, interface: 'eth0', metric: 0 }] : []),
      ...devices.map((name, i) => ({ destination: `10.${90 + i}.0.0/16`, interface: name, metric: 0 })),
    ];
    const neighbours = gateway && !router ? [{ ip: gateway, mac: mac(host.site, 1), interface: 'eth0', state: 'reachable' }] : [];
    return {
      version: 1, observed_at: observedAt, agent_version: host.version ?? '0.1.0', interval_s: this.interval, hardware: host.name, clock_offset_ms: host.clock ?? 0,
      delivery: { spooled: host.spooled ?? 0, dropped: 0, distance: 0 },
      system: {
        hostname: host.hostname ?? host.name, os: 'Debian GNU/Linux 12 (bookworm)', kernel: '6.1.0-28-amd64', arch: 'x86_64', uptime_s: 86_400 + time,
        load: [0.32, 0.28, 0.21], memory: { total_kb: 2_000_000, available_kb: 1_200_000, free_kb: 500_000, swap_total_kb: 0, swap_free_kb: 0 },
        forwarding: { ipv4: host.lan === 0, ipv6: false },
        interfaces, interfaces_total: interfaces.length, routes, routes_total: routes.length, routes_source: 'proc',
        neighbours, neighbours_total: neighbours.length, neighbours_source: 'proc',
        wireguard, wireguard_source: 'wg', peers_total: mine.length,
      },
      problems: host.problems ?? [],
    };
  }

  publicOf(host) {
    return host.site == null ? `203.0.113.${host.number % 250}` : `198.51.${host.site >> 8}.${1 + (host.site & 255)}`;
  }

  peer(host, tunnel, time, observedAt) {
    const other = tunnel.a === host ? tunnel.b : tunnel.a;
    const key = typeof other === 'string' ? keyOf(other) : keyOf(`${other.name} ${tunnel.device}`);
    const far = typeof other === 'string' ? 200 : other.number + (tunnel.device === 'wg0' ? 0 : 65536);
    // A broken tunnel carries no more, and its ends send a handshake initiation every 5 s.
    if (tunnel.broken) tunnel.brokenAt ??= time;
    const grown = Math.min(time, tunnel.brokenAt ?? time);
    const sent = 148 * Math.ceil((time - grown) / 5);
    const carries = tunnel.idle || tunnel.never ? 0 : Math.round(800 * (grown + 60 * Math.sin(grown / 100)));
    // A tunnel in use makes a new handshake every two minutes; an older one only ages.
    const age = tunnel.handshake + Math.max(0, Math.round((observedAt - this.begun) / 1000));
    const handshake = tunnel.handshake < 120 ? age % 120 : age;
    return {
      public_key: key, has_psk: false,
      endpoint: typeof other === 'string' ? '203.0.113.200:40000' : `${this.publicOf(other)}:51820`,
      allowed_ips: [`${ip(far)}/32`], handshake_age_s: tunnel.never ? undefined : tunnel.broken ? 900 + time - grown : handshake,
      rx_bytes: tunnel.rx + carries, tx_bytes: tunnel.tx + carries + sent, keepalive_s: tunnel.keepalive || undefined,
    };
  }

  /** Every host that is not silent reports once. */
  async beat(observedAt) {
    const hosts = this.hosts.filter((host) => !host.silent);
    for (let i = 0; i < hosts.length; i += 32) await Promise.all(hosts.slice(i, i + 32).map((host) => this.send(host, observedAt)));
  }

  async send(host, observedAt) {
    host.tick += 1;
    const code = await post(this.base, seal(this.psk, { agent: host.id, boot: host.boot, tick: host.tick }, this.report(host, observedAt)));
    if (code !== 'stored') throw new Error(`${host.name}: ${code}`);
  }
}

/** Five sites with a router each, a host with a hostile name (or another `odd` one), and the usual faults. */
export function small(base, psk, interval, odd = '<img src=x onerror=window.__hit=1>') {
  const fleet = new Fleet(base, psk, interval);
  const cities = ['helsinki', 'oulu', 'berlin', 'paris', 'warsaw'];
  const routers = cities.map((city, site) => fleet.host(`${city}-gw`, site, { lan: 0, traffic: 6 }));
  cities.forEach((city, site) => {
    for (let i = 1; i <= 3 + (site % 3); i += 1) {
      const host = fleet.host(`${city}-app${i}`, site, { lan: i });
      fleet.tunnel(routers[site], host, { handshake: 20 + 10 * i });
    }
  });
  for (const [i, a] of routers.entries()) for (const b of routers.slice(i + 1)) fleet.tunnel(a, b);
  fleet.tunnel(routers[0], routers[2], { device: 'wg1' });
  overlay(routers[0], routers[2]);
  const hostile = fleet.host(odd, 1, { lan: 9, ...(odd.startsWith('<') && { version: '"><script>window.__hit=1</script>', problems: [{ source: '<b>wg</b>', message: odd }] }) });
  fleet.tunnel(routers[1], hostile, { handshake: 300 });
  const lab = fleet.host('roaming-laptop', null, {
    clock: 63_000, spooled: 12,
    interfaces: [
      { name: 'br0', index: 10, kind: 'bridge', mtu: 1500, flags: UP, operstate: 'up', lower: ['eth0.20', 'vxlan7'], addresses: ['10.7.0.1/24'], mac: mac(9, 7), counters: {} },
      { name: 'eth0.20', index: 11, kind: 'vlan', link: 2, master: 'br0', mtu: 1500, flags: UP, operstate: 'up', tunnel: { id: 20 }, counters: {} },
      { name: 'vxlan7', index: 12, kind: 'vxlan', master: 'br0', mtu: 1450, flags: UP, operstate: 'up', tunnel: { id: 7, port: 4789, remote: '203.0.113.1' }, counters: {} },
    ],
  });
  fleet.tunnel(lab, routers[0], { handshake: 50 });
  fleet.tunnel(routers[3], 'phone of nobody', { handshake: 15 });
  const half = fleet.tunnel(routers[4], lab, { oneSided: true, never: true });
  const never = fleet.tunnel(fleet.hosts[6], fleet.hosts[10], { never: true });
  const idle = fleet.tunnel(fleet.hosts[7], fleet.hosts[11], { idle: true, keepalive: 0, handshake: 4000 });
  return Object.assign(fleet, { routers, hostile, lab, half, never, idle });
}

/** A VXLAN between two hosts, over their first tunnel. */
function overlay(a, b) {
  for (const [here, there] of [[a, b], [b, a]]) {
    const tunnel = { id: 7, port: 4789, local: ip(here.number), remote: ip(there.number) };
    here.interfaces = [{ name: 'vxlan7', index: 12, kind: 'vxlan', mtu: 1370, flags: UP, operstate: 'up', link: 3, addresses: [`10.7.0.${here.number}/24`], tunnel, counters: {} }];
  }
}

/** A fleet of sites with tunnels between their first hosts, as many as asked for. */
export function large(base, psk, { hosts, links, sites }) {
  const fleet = new Fleet(base, psk, 60);
  const all = Array.from({ length: hosts }, (_, i) => fleet.host(`n${String(i).padStart(4, '0')}`, i % sites, { lan: Math.floor(i / sites) }));
  const pairs = new Set();
  let seed = 7;
  const random = (n) => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % n;
  };
  const join = (a, b) => {
    const key = `${Math.min(a, b)} ${Math.max(a, b)}`;
    if (a === b || pairs.has(key) || pairs.size >= links) return;
    pairs.add(key);
    fleet.tunnel(all[Math.min(a, b)], all[Math.max(a, b)], { broken: random(40) === 0 });
  };
  for (let i = sites; i < hosts; i += 1) join(i % sites, i);
  while (pairs.size < links) {
    const a = random(hosts);
    join(a, random(3) === 0 ? random(hosts) : (a + sites * (1 + random(20))) % hosts);
  }
  return fleet;
}

/** Every host has a tunnel to every other. */
export function full(base, psk, hosts) {
  const fleet = new Fleet(base, psk, 60);
  const all = Array.from({ length: hosts }, (_, i) => fleet.host(`m${String(i).padStart(3, '0')}`, null));
  for (const [i, a] of all.entries()) for (const b of all.slice(i + 1)) fleet.tunnel(a, b);
  return fleet;
}
