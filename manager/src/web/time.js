// The past: a slider over the history with its changes marked, the map of a moment, and what changed.

import { get } from './api.js';
import { $, clock, el, since, span } from './dom.js';
import { STATE, glyph } from './marks.js';
import { build, compare, linkName } from './model.js';
import { emit, managerNow, on, select, shownAt, state } from './state.js';

const STEPS = 480;
const PAGE = 10_000;
const PAGES_MAX = 5;
const LIST_MAX = 200;

let range = 3600; // seconds
let events = [];
let last = 0;
let mark = null; // {at, model} to compare with
let wanted;
let asking = false;

export function start() {
  const slider = $('#time-slider');
  slider.max = STEPS;
  slider.value = STEPS;
  slider.addEventListener('input', () => go(Number(slider.value)));
  $('#time-back').onclick = () => jump(-1);
  $('#time-on').onclick = () => jump(1);
  $('#time-live').onclick = () => live();
  $('#time-range').onchange = (change) => {
    range = Number(change.target.value);
    live();
    load();
  };
  $('#mark').onclick = setMark;
  new ResizeObserver(density).observe($('#density'));
  on('theme', density);
  on('live', live);
  on('model', () => {
    label();
    changes();
  });
  on('polled', follow);
}

/** All changes within the range. */
export async function load() {
  const from = managerNow() - range * 1000;
  const found = [];
  let after = 0;
  try {
    for (let page = 0; page < PAGES_MAX; page += 1) {
      const { body } = await get(`events?since=${Math.round(from)}&after=${after}&limit=${PAGE}`);
      found.push(...body.events);
      after = body.last;
      if (body.events.length < PAGE) break;
    }
    events = found;
    last = Math.max(last, after);
  } catch (error) {
    $('#changes').replaceChildren(el('li', { class: 'none' }, `Changes could not be loaded: ${error.message}.`));
    return;
  }
  density();
  changes();
}

/** The changes since those known. */
async function follow() {
  label();
  try {
    const { body, changed } = await get(`events?after=${last}&limit=${PAGE}`);
    if (!changed || !body.events.length) return density();
    last = body.last;
    events.push(...body.events);
    const from = managerNow() - range * 1000;
    events = events.filter((event) => event.at >= from);
  } catch {
    return; // The banner tells that the manager does not answer.
  }
  density();
  changes();
}

const momentOf = (step) => managerNow() - ((STEPS - step) / STEPS) * range * 1000;

function go(step) {
  if (step >= STEPS) return live();
  return show(Math.round(momentOf(step)));
}

export function live() {
  wanted = undefined;
  $('#time-slider').value = STEPS;
  if (state.at == null) return;
  state.at = null;
  state.model = state.present;
  emit('model');
  emit('selection', {});
}

/** Shows the map of a moment; while one is asked for, only the latest wish is kept. */
export async function show(at) {
  wanted = at;
  if (asking) return;
  asking = true;
  try {
    while (wanted !== undefined) {
      const moment = wanted;
      wanted = undefined;
      const { body } = await get(`topology?at=${moment}&detail=brief`);
      if (wanted !== undefined) continue;
      state.at = moment;
      state.model = build(body, new Map(), state.present);
      emit('model');
      emit('selection', {});
    }
  } catch (error) {
    $('#live').textContent = `The past cannot be shown: ${error.message}`;
  } finally {
    asking = false;
  }
}

/** To the change before or after the moment that is shown. */
function jump(step) {
  const moments = [...new Set(events.map((event) => event.at))].sort((a, b) => a - b);
  const now = shownAt();
  const next = step < 0 ? moments.filter((at) => at < now - 1).pop() : moments.find((at) => at > now);
  if (next == null) return step > 0 ? live() : undefined;
  $('#time-slider').value = Math.max(0, STEPS - ((managerNow() - next) / (range * 1000)) * STEPS);
  return show(next);
}

function label() {
  const slider = $('#time-slider');
  const isLive = state.at == null;
  const words = isLive ? 'Now' : `${clock(state.at)}, ${span((managerNow() - state.at) / 1000)} ago`;
  slider.setAttribute('aria-valuetext', words);
  $('#time-label').textContent = isLive ? clock(managerNow()) : clock(state.at);
  $('#time-live').setAttribute('aria-pressed', String(isLive));
}

const BAD = new Set(['down', 'stale', 'one_sided', 'never', 'silent']);
const isBad = ({ change }) => BAD.has(change.to ?? change.presence ?? change.edge?.state);

/** How many changes there were when, as bars above the slider; those for the worse in their own colour, from below. */
function density() {
  const canvas = $('#density');
  const [w, h] = [canvas.clientWidth, canvas.clientHeight];
  if (!w) return;
  const dpr = Math.min(2, devicePixelRatio || 1);
  [canvas.width, canvas.height] = [w * dpr, h * dpr];
  const c = canvas.getContext('2d');
  c.scale(dpr, dpr);
  const style = getComputedStyle(document.documentElement);
  const bins = Math.max(1, Math.floor(w / 5));
  const counts = new Array(bins).fill(0);
  const worse = new Array(bins).fill(0);
  const [to, from] = [managerNow(), managerNow() - range * 1000];
  for (const event of events) {
    const bin = Math.floor(((event.at - from) / (to - from)) * bins);
    if (bin < 0) continue;
    counts[Math.min(bins - 1, bin)] += 1;
    if (isBad(event)) worse[Math.min(bins - 1, bin)] += 1;
  }
  const most = Math.log2(1 + Math.max(1, ...counts));
  const bars = (numbers, colour) => {
    c.fillStyle = style.getPropertyValue(colour);
    numbers.forEach((count, i) => {
      const height = count ? 2 + (Math.log2(1 + count) / most) * (h - 14) : 0;
      c.fillRect(i * (w / bins) + 0.5, h - height, w / bins - 1, height);
    });
  };
  bars(counts, '--ctl');
  bars(worse, '--down');
  c.fillStyle = style.getPropertyValue('--muted');
  c.font = '10px system-ui,sans-serif';
  const step = [300, 900, 1800, 3600, 10_800, 21_600, 86_400].find((seconds) => (range / seconds) * 62 < w) ?? 86_400;
  for (let at = Math.ceil(from / 1000 / step) * step * 1000; at < to; at += step * 1000) {
    const x = ((at - from) / (to - from)) * w;
    if (x > w - 34) break;
    c.fillRect(x, 0, 1, 9);
    const date = new Date(at);
    c.fillText(range > 86_400 ? date.toLocaleDateString([], { month: 'short', day: 'numeric' }) : date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }), x + 3, 8.5);
  }
}

function setMark() {
  mark = mark ? null : { at: shownAt(), model: state.model };
  $('#mark').textContent = mark ? 'Stop comparing' : 'Compare from here';
  $('#mark').setAttribute('aria-pressed', String(Boolean(mark)));
  changes();
}

function changes() {
  if (!state.model) return;
  const box = $('#changes');
  const list = mark ? compared() : happened();
  $('#changes-title').textContent = mark ? `Between ${clock(Math.min(mark.at, shownAt()))} and ${clock(Math.max(mark.at, shownAt()))}: ${list.length || 'no'} difference${list.length === 1 ? '' : 's'}` : `Up to ${state.at == null ? 'now' : clock(state.at)}, newest first`;
  const none = mark ? 'No difference. Move the slider to the other moment.' : 'No changes in this time.';
  box.replaceChildren(...(list.length ? list.slice(0, LIST_MAX) : [el('li', { class: 'none' }, none)]));
  if (list.length > LIST_MAX) box.append(el('li', { class: 'none' }, `${list.length - LIST_MAX} more`));
}

function compared() {
  const [before, after] = mark.at <= shownAt() ? [mark.model, state.model] : [state.model, mark.model];
  return compare(before, after).map((item) => entry(item, item.name, item.text, null, null));
}

function happened() {
  const until = shownAt();
  return events.filter((event) => event.at <= until).reverse().slice(0, LIST_MAX + 1).map((event) => {
    const [name, text, tone] = words(event);
    const type = state.present?.linkById.has(event.subject) || event.change.event.startsWith('edge') || event.change.event === 'half_changed' ? 'link' : 'node';
    return entry({ type, id: event.subject }, name, text, event.at, tone);
  });
}

function entry(subject, name, text, at, tone) {
  const open = () => select({ type: subject.type, id: subject.id }, { zoom: true });
  return el('li', {}, el('button', { type: 'button', onclick: open }, tone ? glyph(tone) : el('span', {}), el('b', {}, name), at ? el('time', { title: clock(at, true) }, since(at, managerNow())) : el('span', {}), el('small', {}, text)));
}

/** What a change was, in words: name, text, mark. */
export function words({ subject, change }) {
  const model = state.present ?? state.model;
  const l = model.linkById.get(subject);
  const name = l ? linkName(l, model) : model.byId.get(subject)?.name ?? change.node?.name ?? subject.replace(/[0-9a-f]{32}/g, (id) => model.byId.get(id)?.name ?? id.slice(0, 8));
  switch (change.event) {
    case 'node_appeared': return [name, 'appeared'];
    case 'node_vanished': return [name, 'vanished'];
    case 'node_renamed': return [change.name, 'renamed'];
    case 'presence_changed': return [name, change.presence === 'silent' ? 'fell silent' : 'reports again', change.presence === 'silent' ? STATE.down : STATE.up];
    case 'interface_changed': return [name, `${change.interface}: ${change.changed.join(', ')}`];
    case 'edge_appeared': return [name, `${change.edge.layer} link appeared, ${STATE[change.edge.state]?.name.toLowerCase()}`, STATE[change.edge.state]];
    case 'edge_vanished': return [name, 'link vanished'];
    case 'edge_state_changed': return [name, `${STATE[change.from]?.name} → ${STATE[change.to]?.name}`, STATE[change.to]];
    case 'edge_relation_changed': return [name, `now ${change.relation.replace('_', '-')}`];
    case 'half_changed': return [name, `peer setting: ${change.changed.join(', ').replaceAll('_', ' ')}`];
    default: return [name, change.event.replaceAll('_', ' ')];
  }
}
