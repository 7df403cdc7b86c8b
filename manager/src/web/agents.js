// The tables: hosts on the map (short, beside it) and every agent with how it reports (a page of its own).

import { $, el, since, span } from './dom.js';
import { HEALTH, KINDS, glyph } from './marks.js';
import { arrival, offset } from './node-panel.js';
import { emit, managerNow, on, select, state } from './state.js';

/** Rows that are shown at first, and how many more at a time. */
const ROWS = 300;
const shownRows = { nodes: ROWS, agents: ROWS };
const PRESENCE = { online: HEALTH.ok, late: HEALTH.stale, offline: HEALTH.down, never: { name: 'Never', glyph: '0', tone: 'unknown', rank: 2 } };

const NODE_COLUMNS = [
  { id: 'name', name: 'Host', key: (node) => node.name.toLowerCase(), cell: (node) => open(node.id, node.name) },
  { id: 'health', name: 'State', key: (node) => -HEALTH[node.health].rank, cell: (node) => el('span', { class: 'hb' }, glyph(HEALTH[node.health]), node.kind === 'agent' ? HEALTH[node.health].name : KINDS[node.kind]) },
  { id: 'links', name: 'Links', numeric: true, key: (node) => -node.degree, cell: (node) => (node.bad ? `${node.degree} (${node.bad} bad)` : String(node.degree)) },
];

const AGENT_COLUMNS = [
  { id: 'hostname', name: 'Host', key: (agent) => agent.hostname.toLowerCase(), cell: (agent) => open(agent.id, agent.hostname || agent.id) },
  { id: 'presence', name: 'Presence', key: (agent) => -(PRESENCE[agent.presence]?.rank ?? 0), cell: (agent) => el('span', { class: 'hb' }, glyph(PRESENCE[agent.presence]), PRESENCE[agent.presence].name) },
  { id: 'seen', name: 'Last seen', numeric: true, key: (agent) => -(agent.last_seen ?? 0), cell: (agent) => (agent.last_seen ? `${since(agent.last_seen, managerNow())} ago` : 'never') },
  { id: 'version', name: 'Version', key: (agent) => agent.version, cell: (agent) => agent.version },
  { id: 'interval', name: 'Interval', numeric: true, key: (agent) => agent.interval_s ?? 0, cell: (agent) => (agent.interval_s ? span(agent.interval_s) : '–') },
  { id: 'clock', name: 'Clock', numeric: true, key: (agent) => -Math.abs(agent.clock_offset_ms ?? 0), cell: (agent) => (agent.clock_offset_ms == null ? '–' : offset(agent.clock_offset_ms)) },
  { id: 'arrival', name: 'Reports come', key: (agent) => -(agent.path?.length ?? 0), cell: (agent) => (agent.arrival ? arrival(agent) : '–') },
  { id: 'psk', name: 'PSK', numeric: true, key: (agent) => agent.psk_generation ?? 0, cell: (agent) => (agent.psk_generation == null ? '–' : String(agent.psk_generation)) },
  { id: 'spooled', name: 'Waiting', numeric: true, key: (agent) => -(agent.spooled ?? 0), cell: (agent) => String(agent.spooled ?? '–') },
  { id: 'dropped', name: 'Given up', numeric: true, key: (agent) => -(agent.dropped ?? 0), cell: (agent) => String(agent.dropped ?? '–') },
  { id: 'problems', name: 'Problems', numeric: true, key: (agent) => -(agent.problems ?? 0), cell: (agent) => String(agent.problems ?? '–') },
  { id: 'id', name: 'Id', key: (agent) => agent.id, cell: (agent) => el('code', {}, agent.id.slice(0, 8)) },
];

const sorting = { nodes: ['health', 1], agents: ['presence', 1] };

export function start() {
  heads('nodes', NODE_COLUMNS);
  heads('agents', AGENT_COLUMNS);
  on('scene', nodes);
  on('selection', nodes);
  on('agents', agents);
  $('#agents-filter').addEventListener('input', agents);
}

function open(id, name) {
  const show = () => {
    emit('page', 'map');
    select({ type: 'node', id }, { focus: true, zoom: true });
  };
  return el('button', { type: 'button', 'data-key': id, onclick: show }, name);
}

function heads(table, columns) {
  const cells = columns.map((column) => {
    const sort = () => {
      const [by, direction] = sorting[table];
      sorting[table] = [column.id, by === column.id ? -direction : 1];
      heads(table, columns);
      (table === 'nodes' ? nodes : agents)();
      $(`#${table}-head [data-key="${column.id}"]`).focus();
    };
    const [by, direction] = sorting[table];
    const order = by !== column.id ? 'none' : direction > 0 ? 'ascending' : 'descending';
    return el('th', { scope: 'col', 'aria-sort': order, class: column.numeric ? 'r' : null }, el('button', { type: 'button', 'data-key': column.id, onclick: sort }, column.name));
  });
  $(`#${table}-head`).replaceChildren(...cells);
}

function sorted(rows, columns, [by, direction], name) {
  const { key } = columns.find((column) => column.id === by);
  const keyed = rows.map((row) => [key(row), name(row), row]);
  keyed.sort(([a, an], [b, bn]) => (a < b ? -direction : a > b ? direction : an < bn ? -1 : 1));
  return keyed.map(([, , row]) => row);
}

function fill(table, rows, columns, current) {
  const body = $(`#${table}-body`);
  const focused = body.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const row = (item) => el('tr', { 'aria-current': item.id === current ? 'true' : null }, columns.map((column) => el('td', { class: column.numeric ? 'r' : null }, column.cell(item))));
  const left = rows.length - shownRows[table];
  const more = () => {
    shownRows[table] += ROWS;
    fill(table, rows, columns, current);
  };
  const rest = left > 0 ? [el('tr', {}, el('td', { colspan: columns.length, class: 'none' }, el('button', { type: 'button', class: 'more', 'data-key': 'more', onclick: more }, `Show ${Math.min(left, ROWS)} more of ${left}`)))] : [];
  const none = rows.length ? [] : [el('tr', {}, el('td', { colspan: columns.length, class: 'none' }, state.model ? 'Nothing to show.' : 'Loading…'))];
  body.replaceChildren(...rows.slice(0, shownRows[table]).map(row), ...rest, ...none);
  if (focused) body.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function nodes() {
  if (!state.model) return;
  const { filter } = state;
  const shown = state.model.nodes.filter((node) => node.kind !== 'manager' && filter.healths.has(node.health) && (!filter.site || node.group === filter.site));
  $('#n-nodes').textContent = shown.length;
  fill('nodes', sorted(shown, NODE_COLUMNS, sorting.nodes, (node) => node.name), NODE_COLUMNS, state.selection?.id);
}

function agents() {
  const text = $('#agents-filter').value.trim().toLowerCase();
  const shown = state.agents.filter((agent) => !text || `${agent.hostname} ${agent.id} ${agent.version} ${agent.presence}`.toLowerCase().includes(text));
  $('#n-agents').textContent = state.agents.length;
  fill('agents', sorted(shown, AGENT_COLUMNS, sorting.agents, (agent) => agent.hostname), AGENT_COLUMNS, state.selection?.id);
}
