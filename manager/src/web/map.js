// The map's panel: what is drawn follows the state, and what is picked changes it.

import { worst } from './alarms.js';
import { get } from './api.js';
import { $, el } from './dom.js';
import { bindPointer } from './input.js';
import { bindKeyboard } from './keyboard.js';
import { arrange, layout, restore, save } from './layout.js';
import { HEALTH, KINDS, LAYER, STATE, glyph } from './marks.js';
import { linkName } from './model.js';
import { Renderer } from './renderer.js';
import { scene } from './scene.js';
import { emit, on, select, state } from './state.js';

const COLOURS = ['bg', 'text', 'muted', 'focus', 'ok', 'stale', 'down', 'unknown', 'wireguard', 'overlay', 'physical', 'relay', 'hull', 'hullLine'];
/** Beyond this a map starts with its groups collapsed. */
const COLLAPSE = { nodes: 1500, links: 6000 };
const phone = matchMedia('(max-width: 720px)');

export const view = new Renderer($('#canvas'));
let first = true;

export function start() {
  restore();
  const calls = { pick, hover: tip, drag, drop: save, open: unfold, focus: announce };
  bindPointer(view, calls);
  bindKeyboard(view, calls);
  colours();
  $('#zoom-in').onclick = () => view.zoom(1.5, undefined, undefined, true);
  $('#zoom-out').onclick = () => view.zoom(1 / 1.5, undefined, undefined, true);
  $('#fit').onclick = () => fit();
  $('#arrange').onclick = async () => {
    await arrange(state.model, true);
    rebuild();
    fit();
  };
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', colours);
  on('theme', colours);
  on('model', () => show());
  on('filter', rebuild);
  on('path', () => {
    if (state.path && state.collapsed) expand();
    highlight();
    if (state.path) zoomTo({ type: 'nodes', nodes: state.path.nodes });
  });
  on('alarms', badges);
  on('selection', (options) => {
    tip(null, null);
    if (state.focus || wasFocused) rebuild();
    else highlight();
    if (!options.zoom) return;
    // Once the details are open, so that the map has the size that it will have.
    requestAnimationFrame(() => {
      view.resize();
      zoomTo(shownSelection());
    });
  });
}

/** Shows the model: new nodes are placed first, the others stay where they are. */
async function show() {
  await arrange(state.model);
  if (first && state.model.nodes.length > 1) {
    const { nodes, links, sites } = state.model;
    state.collapsed = sites.length > 1 && (nodes.length > COLLAPSE.nodes || links.length > COLLAPSE.links);
    $('#collapse').checked = state.collapsed;
  }
  rebuild();
  if (first && state.model.nodes.length > 1) {
    first = false;
    fit(false);
    document.body.dataset.ready = '1';
    emit('ready');
  }
}

let wasFocused = null;

export function rebuild() {
  if (!state.model) return;
  const focus = state.focus && hostOf(shownSelection());
  wasFocused = focus;
  const { filter, collapsed, unfolded } = state;
  view.setScene(scene(state.model, layout, { filter, collapsed, unfolded, focus: state.model.byId.has(focus) ? focus : null }));
  highlight();
  badges();
  const agents = state.model.nodes.filter((node) => node.kind === 'agent').length;
  const bad = state.model.links.filter((l) => l.bad).length;
  $('#canvas').setAttribute('aria-label', `Topology map: ${agents} hosts, ${state.model.links.length} links, ${bad} of them with problems. Keyboard help follows.`);
  emit('scene');
}

/** What the selection shows on the map: an alarm shows its subject. */
const shownSelection = () => (state.selection?.type === 'alarm' ? state.selection.shows : state.selection);

const hostOf = (selection) => (selection?.type === 'node' || selection?.type === 'interface' ? selection.id : null);

function highlight() {
  const selection = shownSelection();
  view.way = state.path;
  if (state.path) return view.select(state.path);
  if (!selection || !state.model) return view.select(null);
  if (selection.type === 'nodes') return view.select({ nodes: selection.nodes });
  if (selection.type === 'link') return view.select({ links: [selection.id], nodes: [] });
  const one = `${selection.id}/${selection.interface}`;
  const around = view.index.has(one) ? one : selection.id;
  const also = (state.unfolded.get(around) ?? []).map((item) => `${around}/${item.name}`);
  return view.select(view.index.has(around) ? { around, nodes: also } : null);
}

export function fit(animated = true) {
  pad();
  view.fit(animated);
}

/** On a phone the details cover the lower part. */
function pad() {
  const details = $('#details');
  view.pad = { l: 0, r: 0, t: phone.matches ? 44 : 0, b: phone.matches && !details.hidden ? Math.max(0, details.offsetHeight - 60) : 0 };
}

function zoomTo(selection) {
  if (!selection || !state.model) return;
  if (state.collapsed && selection.type !== 'group') expand();
  pad();
  const l = state.model.linkById.get(selection.id);
  const places = (l ? [l.a, l.b] : selection.nodes ?? [selection.id]).map((id) => layout.xy.get(id)).filter(Boolean);
  if (!places.length) return;
  const [xs, ys] = [places.map(([x]) => x), places.map(([, y]) => y)];
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const room = { w: view.w - 160, h: view.h - view.pad.t - view.pad.b - 160 };
  const k = places.length > 1 ? Math.min(1.6, room.w / (x1 - x0 || 1), room.h / (y1 - y0 || 1)) : Math.max(view.k, 1.3);
  view.centre((x0 + x1) / 2, (y0 + y1) / 2, Math.max(0.1, k));
}

/** Nodes and links with a firing alarm are marked; a collapsed group has its members' worst. Alarms are those of now. */
function badges() {
  if (!state.model) return;
  const found = state.at == null ? worst() : new Map();
  if (state.collapsed) {
    for (const [id, mark] of [...found]) {
      const key = `site:${state.model.byId.get(id)?.group}`;
      if (!(found.get(key)?.rank >= mark.rank)) found.set(key, mark);
    }
  }
  view.setAlarms(found);
}

function expand() {
  state.collapsed = false;
  $('#collapse').checked = false;
  rebuild();
}

function pick(node, link, byKey = false) {
  if (node?.group) {
    expand();
    const hull = layout.hulls.find((found) => found.id === node.group);
    return view.centre(hull.x, hull.y, Math.min(2.2, Math.min(view.w, view.h) / (2.6 * hull.r)));
  }
  if (node?.interface) return select({ type: 'interface', id: node.host, interface: node.interface }, { focus: byKey });
  if (node) return select({ type: 'node', id: node.id }, { focus: byKey });
  if (link?.source) return select({ type: 'link', id: link.source.id });
  state.path = null;
  return select(null);
}

/** Shows a host's interfaces around it, or hides them. */
export async function unfold(node) {
  const id = node.host ?? node.id;
  if (state.unfolded.delete(id)) return rebuild();
  if (state.model.byId.get(id)?.kind !== 'agent') return undefined;
  try {
    const { body } = await get(`topology?of=${encodeURIComponent(id)}`);
    state.unfolded.set(id, body.nodes[0].interfaces ?? []);
    rebuild();
    emit('unfolded');
  } catch (error) {
    $('#live').textContent = error.message;
  }
  return undefined;
}

function drag(i, x, y) {
  const node = view.scene.nodes[i];
  if (node.group || node.interface) return;
  layout.xy.set(node.id, [x, y]);
  [node.x, node.y] = [x, y];
  if (node.orbit) rebuild();
  else {
    view.setScene(view.scene);
    highlight();
  }
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const found = Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  view.setColours({ ...found, none: found.unknown });
}

function tip(node, link, point) {
  const box = $('#tip');
  box.hidden = !node && !link;
  if (box.hidden) return;
  box.replaceChildren(...(node ? nodeTip(node) : linkTip(link)));
  box.style.left = box.style.top = '0'; // so that it is measured at its full width
  box.style.left = `${Math.min(point[0] + 14, view.w - box.offsetWidth - 8)}px`;
  box.style.top = `${Math.min(point[1] + 14, view.h - box.offsetHeight - 8)}px`;
}

function nodeTip(node) {
  if (node.group) return [node.label, el('small', {}, `${node.count} hosts. Click to open.`)];
  if (node.interface) return [`${node.label}`, el('small', {}, node.health === 'ok' ? 'interface, up' : 'interface, down')];
  const known = state.model.byId.get(node.id);
  const address = known.addresses.find((text) => !text.startsWith('127.') && !text.startsWith('::1') && !text.startsWith('fe80'));
  const words = [KINDS[known.kind], known.groupName, address, `${known.degree} links${known.bad ? `, ${known.bad} with problems` : ''}`];
  return [el('span', { class: 'hb' }, glyph(HEALTH[known.health]), known.name), el('small', {}, words.filter(Boolean).join(' · '))];
}

function linkTip({ source: l, layer, count, bad }) {
  if (!l) return [`${count ?? ''} ${LAYER[layer].name} links`, el('small', {}, bad ? `${bad} with problems` : 'no problems')];
  const interfaces = [l.ia, l.ib].filter(Boolean).join(' – ');
  return [el('span', { class: 'hb' }, glyph(STATE[l.state]), linkName(l, state.model)), el('small', {}, `${LAYER[l.layer].name} · ${interfaces} · ${STATE[l.state].name}: ${STATE[l.state].text}`)];
}

function announce(node, links) {
  const health = HEALTH[node.health]?.name ?? '';
  const bad = links.filter((l) => l.source?.bad).length;
  $('#live').textContent = `${node.label}, ${health}, ${links.length} links${bad ? `, ${bad} with problems` : ''}`;
}
