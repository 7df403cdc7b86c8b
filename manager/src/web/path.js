// Where a packet would go: two ends, the hops there and back drawn on the map, where it stops and why.

import { get } from './api.js';
import { $, el, since, facts } from './dom.js';
import { glyph } from './marks.js';
import { agentNamed, emit, managerNow, on, select, state } from './state.js';

const OUTCOME = {
  delivered: 'Delivered', leaves_fleet: 'Leaves the fleet', no_route: 'No route', refused: 'Refused by a route',
  no_allowed_ips: 'No AllowedIPs fit', no_endpoint: 'No endpoint', no_handshake: 'No handshake', one_sided: 'One-sided tunnel',
  interface_down: 'Interface down', forwarding_off: 'Forwarding off', source_refused: 'Source refused', loop: 'Loop', too_many_hops: 'Too many hops',
};

let answer = null;
let direction = 'forward';

export function start() {
  $('#path-form').addEventListener('submit', (event) => {
    event.preventDefault();
    ask();
  });
  $('#path-swap').onclick = () => {
    [$('#path-a').value, $('#path-b').value] = [$('#path-b').value, $('#path-a').value];
    if (answer) ask();
  };
  $('#path-clear').onclick = clear;
  on('agents', choices);
  on('path-from', (id) => fill('#path-a', id));
  on('path-to', (id) => fill('#path-b', id));
  on('selection', () => {
    if (state.selection && state.path) {
      state.path = null;
      emit('path');
    }
  });
}

function fill(box, id) {
  emit('page', 'map');
  emit('tab', 'path');
  $(box).value = state.agentById.get(id)?.hostname || id;
  if ($('#path-a').value && $('#path-b').value) ask();
}

function choices() {
  const names = [...new Set(state.agents.map((agent) => agent.hostname || agent.id))];
  const box = $('#agent-names');
  const key = names.join('\n');
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  box.replaceChildren(...names.map((name) => el('option', { value: name })));
}

async function ask() {
  const [from, to] = [$('#path-a').value.trim(), $('#path-b').value.trim()];
  const id = agentNamed(from)?.id;
  if (!id) return say('error', `“${from}” is no host with an agent.`);
  say('none', 'Asking…');
  try {
    const query = `path?from=${id}&to=${encodeURIComponent(agentNamed(to)?.id ?? to)}`;
    answer = (await get(query)).body;
  } catch (error) {
    answer = null;
    return say('error', `${error.message}. ${error.hint ?? ''}`);
  }
  direction = 'forward';
  select(null);
  return show();
}

function say(tone, text) {
  $('#path-answer').replaceChildren(el('p', { class: tone, role: tone === 'error' ? 'alert' : 'status' }, text));
}

function clear() {
  answer = null;
  state.path = null;
  $('#path-a').value = $('#path-b').value = '';
  $('#path-answer').replaceChildren();
  emit('path');
}

function show() {
  const way = answer[direction];
  state.path = { nodes: way.hops.map((hop) => hop.agent), links: way.hops.map((hop) => hop.edge), stopped: way.outcome !== 'delivered' && way.outcome !== 'leaves_fleet' };
  emit('path');
  const tab = (key, text) => {
    const choose = () => {
      direction = key;
      show();
      $(`#path-answer [data-key="${key}"]`).focus();
    };
    return answer[key] ? el('button', { type: 'button', 'data-key': key, 'aria-pressed': String(direction === key), onclick: choose }, text) : null;
  };
  const [from, to] = direction === 'forward' ? [answer.source, answer.to] : [answer.to, answer.source];
  const well = way.outcome === 'delivered';
  const mark = well ? { glyph: '✓', tone: 'ok' } : way.outcome === 'leaves_fleet' ? { glyph: '→', tone: 'unknown' } : { glyph: '×', tone: 'down' };
  $('#path-answer').replaceChildren(
    el('div', { class: 'acts' }, tab('forward', 'There'), tab('back', 'Back')),
    el('p', { class: `badge ${mark.tone}` }, glyph(mark), OUTCOME[way.outcome] ?? way.outcome),
    el('p', { class: 'lead' }, way.text),
    answer.asymmetric ? el('p', { class: 'step' }, 'The way back leads over other hosts or interfaces than the way there.') : '',
    facts(['From', from ?? 'no source address'], ['To', to], ['Largest packet', way.mtu && `${way.mtu} bytes`], ['As of', `${since(answer.at, managerNow())} ago`]),
    el('ol', { class: 'hops' }, way.hops.map((hop, i) => step(hop, i, way, mark))),
  );
}

function step(hop, i, way, end) {
  const last = i === way.hops.length - 1;
  const mark = last && end.tone === 'down' ? end : { glyph: String(i + 1), tone: 'plain' };
  const route = hop.route && `route ${hop.route.destination}${hop.route.gateway ? ` via ${hop.route.gateway}` : ''}${hop.route.table === 254 ? '' : `, table ${hop.route.table}`}`;
  const lines = [
    hop.came_by && `in by ${hop.came_by}`,
    hop.leaves_by && `out by ${hop.leaves_by}${hop.mtu ? ` (up to ${hop.mtu} bytes)` : ''}`,
    route,
    hop.allowed_ip && `AllowedIPs ${hop.allowed_ip} of peer ${String(hop.peer).slice(0, 8)}…`,
    ...(hop.caveats ?? []).map((text) => `not sure: ${text}`),
    way.mtu_drop_at === i ? 'here larger packets stop fitting' : null,
  ];
  const open = () => select({ type: 'node', id: hop.agent }, { zoom: true });
  const evidence = hop.evidence?.length ? el('details', {}, el('summary', {}, 'Evidence'), el('ul', { class: 'plain evidence' }, hop.evidence.map((piece) => el('li', {}, piece.text)))) : null;
  return el('li', {}, glyph(mark), el('div', {}, el('button', { type: 'button', class: 'link', onclick: open }, hop.name), lines.filter(Boolean).map((text) => el('small', {}, text)), evidence));
}
