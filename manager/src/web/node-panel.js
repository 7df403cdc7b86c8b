// Everything known of a node, or of one of its interfaces.

import { chart, rates } from './chart.js';
import { bytes, capped, clock, el, facts, rate, since, span, table } from './dom.js';
import { HEALTH, KINDS, LAYER, STATE, glyph, marked, sample } from './marks.js';
import { heading, history } from './details.js';
import { farFacts } from './far-facts.js';
import { emit, managerNow, select, state } from './state.js';

const LIST = 12;
const NAT = { none: 'none', nat: 'behind NAT', symmetric: 'behind symmetric NAT' };

/** `known`: part, agent, rates as far as they have come, or error. */
export function nodePanel(node, model, known, { close, alarms, interfaceName, unfold }) {
  const full = known.part?.nodes.find((found) => found.id === node.id);
  const report = known.agent?.report;
  const links = model.links.filter((l) => l.a === node.id || l.b === node.id).sort((a, b) => STATE[b.state].rank - STATE[a.state].rank);
  if (interfaceName) return interfacePanel(node, interfaceName, { full, report, links, model, known, close });
  const named = model.linkById;
  const edges = new Map((known.part?.edges ?? []).filter((edge) => named.has(edge.id)).map((edge) => [edge.id, edge]));
  return [
    heading(node.name, close, presence(node, known.agent)),
    alarms,
    actions(node, unfold),
    node.kind === 'agent' ? generalFacts(node, full, known.agent) : farFacts(node, links, model, known),
    known.error ? el('p', { class: 'hint', role: 'alert' }, `Figures could not be loaded: ${known.error.message}.`) : null,
    state.at != null ? el('p', { class: 'hint' }, 'Figures and reports are shown for now only; links and states are those of the moment.') : null,
    ...charts(report, known.rates),
    el('h3', {}, 'Links ', el('span', {}, String(links.length))),
    links.length ? capped(links, LIST, (list) => linkTable(node, list, edges, model), 'links') : el('p', { class: 'none' }, 'No links.'),
    ...interfaces(node, full, report, known.rates),
    ...routes(report),
    ...problems(report),
    ...history(known),
    raw(known.agent),
  ];
}

function presence(node, detail) {
  const mark = HEALTH[node.health];
  const agent = detail?.agent ?? state.agentById.get(node.id);
  const words = node.kind !== 'agent' ? KINDS[node.kind] : agent?.last_seen ? `reported ${since(agent.last_seen, managerNow())} ago` : '';
  return el('div', { class: `badge ${mark.tone}` }, glyph(mark), node.kind === 'agent' || node.kind === 'manager' ? mark.name : '', el('span', {}, node.kind === 'manager' ? 'Manager' : words));
}

function actions(node, unfold) {
  const button = (key, text, pressed, onclick) => el('button', { type: 'button', 'data-key': key, 'aria-pressed': pressed == null ? null : String(pressed), onclick }, text);
  const focus = () => {
    state.focus = !state.focus;
    emit('selection', {});
  };
  return el('div', { class: 'acts' },
    button('focus', 'Focus', state.focus, focus),
    node.kind === 'agent' ? button('unfold', 'Interfaces', state.unfolded.has(node.id), unfold) : null,
    node.kind === 'agent' ? button('from', 'Path from', null, () => emit('path-from', node.id)) : null,
    node.kind === 'agent' ? button('to', 'Path to', null, () => emit('path-to', node.id)) : null);
}

function generalFacts(node, full, detail) {
  const system = detail?.report?.system;
  const agent = detail?.agent ?? state.agentById.get(node.id);
  const memory = system?.memory;
  const loads = system?.load?.map((load) => load.toFixed(2)).join(' ');
  return facts(
    ['Site', node.groupName],
    ['Seen from the internet at', node.site],
    ['NAT', full?.nat ? NAT[full.nat.kind] : null],
    ['System', system?.os],
    ['Kernel', system && [system.kernel, system.arch].filter(Boolean).join(' ')],
    ['Up for', system?.uptime_s ? span(system.uptime_s) : null],
    ['Load', loads],
    ['Memory', memory?.total_kb ? `${bytes(1024 * (memory.total_kb - (memory.available_kb ?? memory.free_kb)))} of ${bytes(1024 * memory.total_kb)}` : null],
    ['Forwards', system?.forwarding && ([system.forwarding.ipv4 && 'IPv4', system.forwarding.ipv6 && 'IPv6'].filter(Boolean).join(', ') || 'no')],
    ['Agent', agent && [agent.version, agent.interval_s && `every ${agent.interval_s} s`].filter(Boolean).join(', ')],
    ['Reports come', agent?.arrival && arrival(agent)],
    ['Clock', agent?.clock_offset_ms != null ? offset(agent.clock_offset_ms) : null],
    ['PSK generation', agent?.psk_generation],
    ['Waiting / given up', agent?.spooled != null ? `${agent.spooled} / ${agent.dropped ?? 0}` : null],
    ['Figures as of', detail?.observed_at && `${since(detail.observed_at, managerNow())} ago`],
    ['Id', el('code', {}, node.id)],
  );
}

export const arrival = (agent) => (agent.path?.length ? `over ${agent.path.map((id) => state.agentById.get(id)?.hostname ?? id.slice(0, 8)).join(', ')}` : 'directly');

export const offset = (ms) => (Math.abs(ms) < 1000 ? 'in step' : `off by ${span(Math.abs(ms) / 1000)}`);

function linkTable(node, links, edges, model) {
  const rows = links.map((l) => {
    const here = l.a === node.id ? 0 : 1;
    const other = model.byId.get(here ? l.a : l.b);
    const half = edges.get(l.id)?.halves?.[here] ?? edges.get(l.id)?.halves?.[1 - here];
    const open = el('button', { type: 'button', 'data-key': l.id, onclick: () => select({ type: 'link', id: l.id }, { focus: true, zoom: false }) }, other.name);
    return [
      el('span', { class: 'hb' }, glyph(STATE[l.state]), el('span', { class: 'vh' }, STATE[l.state].name), open),
      el('span', { class: 'via' }, sample(l.layer, 18), l.interfaces[here] ?? (l.interfaces[1 - here] ? `their ${l.interfaces[1 - here]}` : '')),
      half?.handshake_age_s == null ? '–' : span(half.handshake_age_s),
      half?.rtt_us == null ? '–' : `${(half.rtt_us / 1000).toFixed(1)} ms`,
    ];
  });
  return table('Links of this node', ['To', 'By', 'Handshake', 'RTT'], rows, [2, 3]);
}

function charts(report, series) {
  if (!report || !series) return [];
  const names = (report.system?.interfaces ?? []).filter((item) => item.kind !== 'loopback').map((item) => item.name);
  const busy = names
    .map((name) => ({ name, points: rates(series.samples, (sample) => sample.interfaces[name]) }))
    .map((item) => ({ ...item, sum: item.points.reduce((sum, point) => sum + (point.rx ?? 0) + (point.tx ?? 0), 0) }))
    .filter((item) => item.sum > 0)
    .sort((a, b) => b.sum - a.sum)
    .slice(0, 3)
    .map((item) => chart(item.name, item.points))
    .filter(Boolean);
  return busy.length ? [el('h3', {}, 'Traffic'), ...busy] : [];
}

function interfaces(node, full, report, series) {
  const list = full?.interfaces ?? [];
  if (!list.length) return [];
  const rows = (items) => items.map((item) => {
    const open = el('button', { type: 'button', 'data-key': `if ${item.name}`, onclick: () => select({ type: 'interface', id: node.id, interface: item.name }, { focus: true }) }, item.name);
    const points = series ? rates(series.samples, (sample) => sample.interfaces[item.name]).filter((point) => !point.gap) : [];
    const last = points[points.length - 1];
    return [
      el('span', { class: 'hb' }, glyph(item.up ? STATE.up : STATE.down), el('span', { class: 'vh' }, item.up ? 'up' : 'down'), open),
      item.kind.replace('_', ' '), last ? rate(last.rx) : '–', last ? rate(last.tx) : '–',
    ];
  });
  return [
    el('h3', {}, 'Interfaces ', el('span', {}, String(list.length))),
    capped(list, LIST, (items) => table('Interfaces', ['Name', 'Kind', 'In', 'Out'], rows(items), [2, 3]), 'interfaces'),
  ];
}

function routes(report) {
  const list = report?.system?.routes ?? [];
  if (!list.length) return [];
  const rows = (items) => items.map((route) => [route.destination, route.gateway ?? 'on link', route.interface ?? route.kind ?? '', String(route.table ?? 'main')]);
  return [
    el('h3', {}, 'Routes ', el('span', {}, String(report.system.routes_total || list.length))),
    capped(list, 8, (items) => table('Routes', ['Destination', 'Via', 'Interface', 'Table'], rows(items), [3]), 'routes'),
  ];
}

function problems(report) {
  if (!report?.problems?.length) return [];
  return [el('h3', {}, 'Could not be read ', el('span', {}, String(report.problems.length))), el('ul', { class: 'plain' }, report.problems.map((problem) => el('li', {}, el('code', {}, problem.source), ` ${problem.message}`)))];
}

function raw(detail) {
  if (!detail?.report) return null;
  const box = el('details', { 'data-name': 'raw' }, el('summary', { 'data-key': 'raw' }, `Raw report, observed ${clock(detail.observed_at)}`));
  box.addEventListener('toggle', () => {
    if (box.open && box.children.length === 1) box.append(el('pre', { tabindex: '0' }, JSON.stringify(detail.report, null, 1)));
  });
  return box;
}

function interfacePanel(node, name, { full, report, links, model, known, close }) {
  const item = full?.interfaces?.find((found) => found.name === name);
  const told = report?.system?.interfaces?.find((found) => found.name === name);
  const here = links.filter((l) => (l.a === node.id && l.ia === name) || (l.b === node.id && l.ib === name));
  const back = el('button', { type: 'button', class: 'link', 'data-key': 'host', onclick: () => select({ type: 'node', id: node.id }, { focus: true }) }, node.name);
  const edges = new Map((known.part?.edges ?? []).map((edge) => [edge.id, edge]));
  const counters = told?.counters;
  return [
    heading(name, close, el('p', {}, 'of ', back)),
    item ? null : el('p', { class: 'none' }, state.at == null ? 'Loading…' : 'Interfaces are shown for now only.'),
    item && facts(
      ['State', marked(item.up ? STATE.up : STATE.down)],
      ['Kind', item.kind.replace('_', ' ')],
      ['Addresses', (item.addresses ?? []).join(', ')],
      ['MAC', item.mac],
      ['MTU', item.mtu],
      ['Speed', told?.speed_mbps ? `${told.speed_mbps} Mbit/s` : null],
      ['Stands on', (item.on ?? []).join(', ')],
      ['Port of', item.master],
      ['Paired with', item.pair],
      ['VPN', item.vpn],
      ['Tunnel', item.tunnel && Object.entries(item.tunnel).map(([key, value]) => `${key} ${value}`).join(', ')],
      ['Public key', item.wireguard?.public_key && el('code', {}, item.wireguard.public_key)],
      ['Listens on port', item.wireguard?.listen_port],
      ['Received', counters && bytes(counters.rx_bytes)],
      ['Sent', counters && bytes(counters.tx_bytes)],
      ['Errors in / out', counters && `${counters.rx_errors ?? 0} / ${counters.tx_errors ?? 0}`],
      ['Dropped in / out', counters && `${counters.rx_dropped ?? 0} / ${counters.tx_dropped ?? 0}`],
      ['Carrier changes', told?.carrier_changes],
      ['As of', full.observed_at && `${since(full.observed_at, managerNow())} ago`],
    ),
    known.rates ? chart(name, rates(known.rates.samples, (sample) => sample.interfaces[name])) : null,
    el('h3', {}, 'Links ', el('span', {}, String(here.length))),
    here.length ? capped(here, LIST, (list) => linkTable(node, list, edges, model), 'links') : el('p', { class: 'none' }, `No ${LAYER.wireguard.name}, overlay or LAN link by it.`),
  ];
}
