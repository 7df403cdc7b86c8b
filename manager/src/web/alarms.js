// The list of alarms: firing ones first, each with those that it covers; a click shows one on the map.

import { get } from './api.js';
import { $, el, since, span } from './dom.js';
import { glyph } from './marks.js';
import { lift } from './order.js';
import { managerNow, on, select, state } from './state.js';

const SEVERITY = {
  critical: { name: 'Critical', glyph: '×', tone: 'down', rank: 3 },
  warning: { name: 'Warning', glyph: '!', tone: 'stale', rank: 2 },
  info: { name: 'Notice', glyph: 'i', tone: 'unknown', rank: 1 },
};
const QUIET = { name: 'Over', glyph: '✓', tone: 'ok', rank: 0 };
/** The sections of the list, in order. */
const SECTIONS = [
  { state: 'firing', name: 'Firing' },
  { state: 'acknowledged', name: 'Acknowledged' },
  { state: 'suppressed', name: 'Covered by another or silenced' },
  { state: 'pending', name: 'Not for long enough yet' },
  { state: 'resolved', name: 'Over, in the last day' },
];

let others = []; // pending and resolved ones, when they are asked for
let wanted = false;
let othersError = null;

export function start() {
  on('alarms', list);
  on('selection', list);
  on('model', list);
  on('polled', load);
  $('#alarms-all').onclick = () => {
    wanted = !wanted;
    $('#alarms-all').setAttribute('aria-pressed', String(wanted));
    if (!wanted) others = [];
    list();
    load();
  };
}

async function load() {
  if (!wanted) return;
  try {
    const { body } = await get('alarms?state=pending,resolved&since=-1d&limit=200');
    if (wanted) others = body.alarms;
    othersError = null;
  } catch (error) {
    othersError = error.message;
  }
  list();
}

export const markOf = (alarm) => (alarm.state === 'resolved' ? QUIET : SEVERITY[alarm.severity] ?? SEVERITY.warning);
export const keyOf = (alarm) => `${alarm.code} ${alarm.subject}`;
export const find = (key) => state.alarms.find((alarm) => keyOf(alarm) === key) ?? others.find((alarm) => keyOf(alarm) === key);
const order = (a, b) => markOf(b).rank - markOf(a).rank || b.since - a.since;

/** The alarm that covers this one, or nothing: a silence covers too. */
export const causeOf = (alarm) => state.alarms.find((other) => other !== alarm && keyOf(other) === alarm.suppressed_by);

/** What an alarm is about, as a selection: its subject where that is on the map, else its agents. */
export function target(alarm) {
  const { model } = state;
  if (!model) return null;
  // Subjects are EDGE, AGENT or AGENT/INTERFACE, with words before or after: `EDGE at AGENT`, `CODE SUBJECT`.
  for (const word of alarm.subject.split(' ')) {
    if (model.linkById.has(word)) return { type: 'link', id: word };
    if (model.byId.has(word)) return { type: 'node', id: word };
    const [id, name] = word.split('/');
    if (name && model.byId.has(id)) return { type: 'interface', id, interface: name };
  }
  const known = alarm.agents.filter((id) => model.byId.has(id));
  return known.length === 1 ? { type: 'node', id: known[0] } : known.length ? { type: 'nodes', nodes: known } : null;
}

/** The worst firing alarm of each node and link, by id; those of now. */
export function worst() {
  const found = new Map();
  for (const alarm of state.alarms) {
    if (alarm.state !== 'firing') continue;
    const about = target(alarm);
    for (const id of about?.nodes ?? [about?.id]) if (id && !(found.get(id)?.rank >= markOf(alarm).rank)) found.set(id, markOf(alarm));
  }
  return found;
}

function list() {
  const firing = state.alarms.filter((alarm) => alarm.state === 'firing').length;
  for (const box of document.querySelectorAll('.n-alarms')) box.textContent = firing;
  const box = $('#alarms');
  const focused = box.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  box.replaceChildren(...content());
  if (focused) box.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function content() {
  if (!state.heard) return [el('p', { class: 'none' }, 'Loading…')];
  const errors = [state.alarmsError, othersError].filter(Boolean).slice(0, 1);
  const notes = errors.map((text) => el('p', { class: 'hint pad error', role: 'alert' }, `Alarms could not be loaded: ${text}.`));
  const all = [...state.alarms, ...others.filter((alarm) => !state.alarms.some((known) => known.no === alarm.no))];
  const below = new Map();
  for (const alarm of all) {
    const cause = causeOf(alarm);
    if (cause) below.set(cause, [...(below.get(cause) ?? []), alarm]);
  }
  const covered = new Set([...below.values()].flat());
  const sections = SECTIONS.flatMap(({ state: which, name }) => {
    const shown = all.filter((alarm) => alarm.state === which && !covered.has(alarm)).sort(order);
    if (!shown.length) return [];
    return [el('h3', {}, name, ' ', el('span', {}, String(shown.length))), el('ul', { class: 'alarms' }, shown.map((alarm) => group(alarm, below)))];
  });
  const none = sections.length || notes.length ? [] : [el('p', { class: 'none' }, el('span', { class: 'hb' }, glyph(QUIET), wanted ? 'No alarms in the last day.' : 'No alarms.'))];
  return [...notes, ...none, ...sections, ...silences()];
}

function group(alarm, below) {
  const under = below.get(alarm)?.sort(order);
  return el('li', {}, entry(alarm), under ? el('ul', { class: 'caused', 'aria-label': 'Covered by this' }, under.map((one) => group(one, below))) : null);
}

export function entry(alarm) {
  const mark = markOf(alarm);
  const current = state.selection?.type === 'alarm' && state.selection.id === keyOf(alarm);
  const open = () => choose(alarm);
  return el('button', { type: 'button', 'data-key': `alarm ${alarm.no}`, class: alarm.state === 'firing' ? null : 'past', 'aria-current': current ? 'true' : null, onclick: open },
    glyph(mark), el('b', {}, alarm.sentence), el('time', {}, since(alarm.since, managerNow())),
    el('small', {}, el('span', { class: 'vh' }, `${mark.name}: `), [alarm.state, alarm.code].join(' · ')));
}

/** Shows an alarm in the panel and what it is about on the map. */
export function choose(alarm) {
  select({ type: 'alarm', id: keyOf(alarm), shows: target(alarm) }, { zoom: true, focus: true });
}

/** The alarms of a node or link as a list, or nothing. */
export function alarmsOf(id) {
  const about = (alarm) => {
    const found = target(alarm);
    return found?.id === id || found?.nodes?.includes(id);
  };
  const found = state.alarms.filter(about).sort((a, b) => (b.state === 'firing') - (a.state === 'firing') || order(a, b));
  return found.length ? el('ul', { class: 'alarms' }, found.map((alarm) => el('li', {}, entry(alarm)))) : null;
}

function silences() {
  if (!state.silences.length) return [];
  const item = ({ target: what, until }) => el('li', {},
    el('span', {}, state.agentById.get(what)?.hostname ?? what, el('small', {}, `for another ${span((until - managerNow()) / 1000)}`)),
    el('button', { type: 'button', 'data-key': `lift ${what}`, onclick: () => lift(what) }, 'Lift'));
  return [el('h3', {}, 'Silences ', el('span', {}, String(state.silences.length))), el('ul', { class: 'plain silences' }, state.silences.map(item))];
}
