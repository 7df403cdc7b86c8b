// What layers and states are called and how they are marked: never by colour alone.

import { el, svg } from './dom.js';

export const LAYERS = [
  { id: 'wireguard', name: 'WireGuard', dash: [] },
  { id: 'overlay', name: 'Overlay', dash: [6, 4] },
  { id: 'physical', name: 'Physical / LAN', dash: [] },
  { id: 'relay', name: 'Reports / relay', dash: [9, 3, 2, 3] },
];
export const LAYER = Object.fromEntries(LAYERS.map((layer) => [layer.id, layer]));

// `tone` is a colour of style.css; `rank` sorts the worst first.
export const STATES = [
  { id: 'up', name: 'Up', glyph: '✓', tone: 'ok', rank: 0, text: 'it works' },
  { id: 'idle', name: 'Idle', glyph: '–', tone: 'ok', rank: 1, text: 'nobody uses it and nobody keeps it alive: in order' },
  { id: 'stale', name: 'Stale', glyph: '!', tone: 'stale', rank: 4, text: 'its handshake should be younger than it is' },
  { id: 'down', name: 'Down', glyph: '×', tone: 'down', rank: 6, text: 'it does not work' },
  { id: 'never', name: 'Never', glyph: '0', tone: 'stale', rank: 3, text: 'there was no handshake since the device was made' },
  { id: 'one_sided', name: 'One-sided', glyph: '½', tone: 'stale', rank: 5, text: 'one end is set up, the other, which reports, is not' },
  { id: 'unknown', name: 'Unknown', glyph: '?', tone: 'unknown', rank: 2, text: 'no end that could tell has reported lately' },
];
export const STATE = Object.fromEntries(STATES.map((state) => [state.id, state]));

export const HEALTHS = [
  { id: 'ok', name: 'Online', glyph: '✓', tone: 'ok', rank: 1 },
  { id: 'stale', name: 'Late', glyph: '!', tone: 'stale', rank: 3 },
  { id: 'down', name: 'Offline', glyph: '×', tone: 'down', rank: 4 },
  { id: 'none', name: 'No agent', glyph: '', tone: 'unknown', rank: 0 },
];
export const HEALTH = Object.fromEntries(HEALTHS.map((health) => [health.id, health]));

export const KINDS = { agent: 'Host', external: 'External peer', lan: 'LAN segment', manager: 'Manager', interface: 'Interface' };
export const RELATIONS = {
  confirmed: 'both ends say so',
  one_sided: 'only one end says so',
  external: 'the far end has no agent',
  member: 'a host on this LAN',
  gateway: 'the gateway of this LAN',
  delivery: 'the way of reports',
};
/** A handshake's age class as a state of a link. */
export const HANDSHAKE = { live: 'up', stale: 'stale', dead: 'down', never: 'never' };

/** The round mark of a state or health. */
export function glyph(mark) {
  return el('span', { class: `gl ${mark.tone}${mark.glyph ? '' : ' hollow'}`, 'aria-hidden': 'true' }, mark.glyph);
}

/** The mark with its word. */
export const marked = (mark, ...rest) => el('span', { class: 'hb' }, glyph(mark), el('span', {}, mark.name), rest);

/** A line as the map draws this layer. */
export function sample(layer, width = 22) {
  const line = svg('line', { x1: 0, y1: 5, x2: width, y2: 5, class: `line ${layer}`, 'stroke-dasharray': LAYER[layer].dash.join(' ') });
  return svg('svg', { width, height: 10, viewBox: `0 0 ${width} 10`, 'aria-hidden': 'true', class: 'sample' }, line);
}
