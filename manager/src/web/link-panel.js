// Everything known of a link: both halves, evidence, rates.

import { chart, rates } from './chart.js';
import { bytes, clock, el, facts, since, span } from './dom.js';
import { HANDSHAKE, LAYER, RELATIONS, STATE, glyph, sample } from './marks.js';
import { heading, history } from './details.js';
import { linkName } from './model.js';
import { managerNow, select, shownAt, state } from './state.js';

const TRAFFIC = {
  active: 'data both ways',
  send_only: 'data sent, none received',
  receive_only: 'data received, none sent',
  idle: 'handshakes and keepalives only',
  silent: 'nothing at all',
  unanswered: 'handshakes that nobody answers',
  unknown: 'not known yet',
};
const UNDERLAY = {
  lan: 'the same LAN', internet: 'a gateway, to a public address', routed: 'a gateway, to a private address',
  nested: 'another tunnel', proxy: 'a program on the host', loop: 'the tunnel itself: nothing can flow', no_route: 'no route leads there',
};

export function linkPanel(l, model, known, { close, alarms }) {
  const edge = known.part?.edges.find((found) => found.id === l.id);
  const mark = STATE[l.state];
  const names = [model.byId.get(l.a).name, model.byId.get(l.b).name];
  return [
    heading(linkName(l, model), close, el('div', { class: `badge ${mark.tone}` }, glyph(mark), mark.name, el('span', {}, `for ${span((shownAt() - l.since) / 1000)}`))),
    el('p', { class: 'lead' }, `${mark.name}: ${mark.text}.`),
    alarms,
    ends(l, model),
    facts(
      ['Layer', el('span', {}, sample(l.layer, 18), ' ', LAYER[l.layer].name)],
      ['Interfaces', [l.ia, l.ib].filter(Boolean).join(' – ')],
      ['Known by', RELATIONS[l.relation]],
      ['Since', clock(l.since, true)],
    ),
    known.error ? el('p', { class: 'hint', role: 'alert' }, `Figures could not be loaded: ${known.error.message}.`) : null,
    ...(l.layer === 'wireguard' ? halves(l, edge, names, known) : []),
    ...evidence(edge, known),
    ...parallel(l, model),
    ...history(known),
  ];
}

function ends(l, model) {
  const open = (id) => el('button', { type: 'button', 'data-key': `end ${id}`, onclick: () => select({ type: 'node', id }, { focus: true, zoom: true }) }, model.byId.get(id).name);
  return el('div', { class: 'acts' }, open(l.a), open(l.b));
}

function halves(l, edge, names, known) {
  if (state.at != null) {
    const words = (l.handshakes ?? []).map((handshake, i) => [`As ${names[i]} sees it`, handshake ? `handshake ${handshake}` : 'no such peer']);
    return [el('h3', {}, 'Both halves'), facts(...words)];
  }
  if (!edge) return known.error ? [] : [el('h3', {}, 'Both halves'), el('p', { class: 'none' }, 'Loading…')];
  const series = [known.rates, known.farRates];
  return [0, 1].flatMap((i) => {
    const half = edge.halves?.[i];
    const end = edge.ends[i];
    const title = el('h3', {}, `${names[i]}${end.interface ? `, ${end.interface}` : ''}`);
    if (!half) return [title, el('p', { class: 'none' }, l.relation === 'external' ? 'No agent there: nothing is known of this half.' : 'It has no peer for the other end.')];
    const key = `${end.interface} ${half.peer}`;
    const own = series.find((found) => found?.agent === end.node);
    return [title, halfFacts(half), own ? chart('Traffic with this peer', rates(own.samples, (sample) => sample.peers[key])) : null];
  });
}

function halfFacts(half) {
  const mark = STATE[HANDSHAKE[half.handshake]] ?? STATE.unknown;
  const age = half.handshake_age_s == null ? 'none' : `${span(half.handshake_age_s)} before the report`;
  return facts(
    ['Handshake', el('span', { class: 'hb' }, glyph(mark), age)],
    ['Endpoint', half.endpoint ?? 'none'],
    ['AllowedIPs', half.allowed_ips.join(', ') || 'none'],
    ['Keepalive', half.keepalive_s ? `${half.keepalive_s} s` : 'off'],
    ['Preshared key', half.has_psk ? 'set' : 'not set'],
    ['Received', bytes(half.rx_bytes)],
    ['Sent', bytes(half.tx_bytes)],
    ['Lately', TRAFFIC[half.traffic] + (half.counters_reset ? '; counters were reset' : '')],
    ['Round trip', half.rtt_us == null ? null : `${(half.rtt_us / 1000).toFixed(2)} ms`],
    ['Loss', half.loss && `${half.loss.percent} % (at least ${half.loss.at_least_percent} %) of ${bytes(half.loss.sent_bytes)} in ${half.loss.window_s} s`],
    ['Carried by', half.underlay && carried(half.underlay)],
    ['As of', `${since(half.observed_at, managerNow())} ago`],
  );
}

function carried(underlay) {
  const words = [UNDERLAY[underlay.kind], underlay.interface && `by ${underlay.interface}`, underlay.via && `via ${underlay.via}`].filter(Boolean).join(', ');
  if (!underlay.inside || !state.model.linkById.has(underlay.inside)) return words;
  return el('button', { type: 'button', class: 'link', 'data-key': 'inside', onclick: () => select({ type: 'link', id: underlay.inside }, { focus: true }) }, words);
}

function evidence(edge, known) {
  if (state.at != null) return [];
  const list = edge?.evidence ?? [];
  const item = (piece) => el('li', {}, piece.text, el('small', {}, el('code', {}, piece.field), ` ${state.agentById.get(piece.agent)?.hostname ?? piece.agent}, ${since(piece.observed_at, managerNow())} ago`));
  return [
    el('h3', {}, 'Evidence ', el('span', {}, edge ? String(list.length) : '')),
    edge || known.error ? el('ul', { class: 'plain evidence' }, list.map(item)) : el('p', { class: 'none' }, 'Loading…'),
  ];
}

function parallel(l, model) {
  const others = model.links.filter((x) => x.id !== l.id && ((x.a === l.a && x.b === l.b) || (x.a === l.b && x.b === l.a)));
  if (!others.length) return [];
  const item = (x) => el('li', {}, el('button', { type: 'button', class: 'link hb', 'data-key': x.id, onclick: () => select({ type: 'link', id: x.id }, { focus: true }) }, glyph(STATE[x.state]), sample(x.layer, 18), ` ${[x.ia, x.ib].filter(Boolean).join(' – ')}, ${STATE[x.state].name.toLowerCase()}`));
  return [el('h3', {}, 'Also between these two'), el('ul', { class: 'plain' }, others.map(item))];
}
