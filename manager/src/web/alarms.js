// Alarms: firing ones first, each with those that it causes; click shows one on the map.
// Fields that an alarm lacks are left out.

import { post } from './api.js';
import { $, clock, el, facts, since } from './dom.js';
import { glyph } from './marks.js';
import { order as signed } from './sign.js';
import { emit, managerNow, on, select, state } from './state.js';

const SEVERITY = {
  critical: { name: 'Critical', glyph: '×', tone: 'down', rank: 3 },
  error: { name: 'Error', glyph: '×', tone: 'down', rank: 3 },
  warning: { name: 'Warning', glyph: '!', tone: 'stale', rank: 2 },
  info: { name: 'Notice', glyph: 'i', tone: 'unknown', rank: 1 },
};
const STATES = { firing: 0, acknowledged: 1, pending: 2, suppressed: 3, resolved: 4 };
const QUIET = { name: 'Resolved', glyph: '✓', tone: 'ok', rank: 0 };

export function start() {
  on('alarms', list);
  on('selection', list);
  on('model', list);
}

const markOf = (alarm) => (alarm.state === 'resolved' ? QUIET : SEVERITY[alarm.severity] ?? SEVERITY.warning);
const keyOf = (alarm) => `${alarm.code} ${alarm.subject}`;
const sentence = (alarm) => alarm.sentence ?? alarm.message ?? alarm.code;
const order = (a, b) => (STATES[a.state] ?? 2) - (STATES[b.state] ?? 2) || markOf(b).rank - markOf(a).rank || (b.since ?? 0) - (a.since ?? 0);
/** The alarm that covers this one, by the key of `keyOf` or by its number. */
const causeOf = (alarm) => {
  const by = alarm.suppressed_by;
  const found = by && state.alarms.find((other) => other !== alarm && [keyOf(other), String(other.no), `${other.code}:${other.subject}`].includes(String(by)));
  return found ? keyOf(found) : null;
};

/** The node or link of an alarm, as a selection; `null` when it is not on the map. */
export function target(alarm) {
  const { model } = state;
  const subject = alarm.subject ?? '';
  if (!model) return null;
  if (model.linkById.has(subject)) return { type: 'link', id: subject };
  if (model.byId.has(subject)) return { type: 'node', id: subject };
  const [node, name] = subject.split('/');
  const id = node.replace(/^(agent|node|interface):/, '');
  if (model.byId.has(id)) return name ? { type: 'interface', id, interface: name } : { type: 'node', id };
  return null;
}

function list() {
  const shown = [...state.alarms].sort(order);
  const firing = shown.filter((alarm) => alarm.state === 'firing').length;
  for (const box of document.querySelectorAll('.n-alarms')) box.textContent = firing;
  const box = $('#alarms');
  if (state.alarmsError) return box.replaceChildren(el('li', { class: 'none' }, `Alarms could not be loaded: ${state.alarmsError}.`));
  if (!shown.length) return box.replaceChildren(el('li', { class: 'none' }, state.now ? 'No alarms.' : 'Loading…'));
  const keys = new Set(shown.map(keyOf));
  const caused = Map.groupBy ? Map.groupBy(shown, causeOf) : groupBy(shown, causeOf);
  const roots = shown.filter((alarm) => !keys.has(causeOf(alarm)));
  const group = (alarm) => {
    const below = caused.get(keyOf(alarm)) ?? [];
    return el('li', {}, entry(alarm), below.length ? el('ul', { class: 'caused', 'aria-label': 'Caused by this' }, below.map((one) => el('li', {}, entry(one)))) : null);
  };
  return box.replaceChildren(...roots.map(group));
}

function groupBy(items, key) {
  const found = new Map();
  for (const item of items) {
    const at = key(item);
    if (!found.has(at)) found.set(at, []);
    found.get(at).push(item);
  }
  return found;
}

function entry(alarm) {
  const mark = markOf(alarm);
  const current = state.selection?.type === 'alarm' && state.selection.id === keyOf(alarm);
  const open = () => select({ type: 'alarm', id: keyOf(alarm), ...place(alarm) }, { zoom: true, focus: true });
  return el('button', { type: 'button', class: alarm.state === 'resolved' ? 'past' : null, 'aria-current': current ? 'true' : null, onclick: open },
    glyph(mark), el('b', {}, sentence(alarm)), el('time', {}, since(alarm.since, managerNow())),
    el('small', {}, el('span', { class: 'vh' }, `${mark.name}: `), [alarm.state, alarm.code].filter(Boolean).join(' · ')));
}

const place = (alarm) => ({ shows: target(alarm) });

/** The alarms of a node or link as a list, or nothing. */
export function alarmsOf(id) {
  const found = state.alarms.filter((alarm) => alarm.state !== 'resolved' && target(alarm)?.id === id).sort(order);
  return found.length ? el('ul', { class: 'alarms' }, found.map((alarm) => el('li', {}, entry(alarm)))) : null;
}

/** The panel of one alarm. */
export function alarmDetails(key, close) {
  const alarm = state.alarms.find((found) => keyOf(found) === key);
  if (!alarm) return [el('header', {}, el('h2', {}, 'Alarm'), close), el('p', { class: 'none' }, 'This alarm is gone.')];
  const mark = markOf(alarm);
  const shows = target(alarm);
  const evidence = Array.isArray(alarm.evidence) ? alarm.evidence : alarm.evidence ? [alarm.evidence] : [];
  return [
    el('header', {}, el('div', {}, el('h2', {}, sentence(alarm)), el('div', { class: `badge ${mark.tone}` }, glyph(mark), mark.name, el('span', {}, `${alarm.state} for ${since(alarm.since, managerNow())}`))), close),
    alarm.next_step ? el('p', { class: 'step' }, el('b', {}, 'Next: '), alarm.next_step) : null,
    el('div', { class: 'acts' },
      shows ? el('button', { type: 'button', 'data-key': 'show', onclick: () => select(shows, { focus: true, zoom: true }) }, 'Show details') : null,
      alarm.state === 'firing' ? el('button', { type: 'button', 'data-key': 'ack', onclick: () => askToAcknowledge(alarm) }, 'Acknowledge') : null),
    facts(['Code', el('code', {}, alarm.code)], ['Since', alarm.since && clock(alarm.since, true)], ['Subject', el('code', {}, alarm.subject)], ['Likely cause', alarm.cause], ['Covered by', coveredBy(alarm)]),
    evidence.length ? el('h3', {}, 'Evidence ', el('span', {}, String(evidence.length))) : null,
    evidence.length ? el('ul', { class: 'plain evidence' }, evidence.map((piece) => el('li', {}, words(piece)))) : null,
  ];
}

const words = (piece) => (typeof piece === 'string' ? piece : [piece.text ?? JSON.stringify(piece), piece.field ? el('small', {}, el('code', {}, piece.field), piece.observed_at ? ` ${since(piece.observed_at, managerNow())} ago` : '') : '']);

function coveredBy(alarm) {
  const cause = state.alarms.find((found) => keyOf(found) === causeOf(alarm));
  if (!cause) return alarm.suppressed_by;
  return el('button', { type: 'button', class: 'link', 'data-key': 'cause', onclick: () => select({ type: 'alarm', id: keyOf(cause), ...place(cause) }, { focus: true }) }, sentence(cause));
}

let secret = null; // kept as long as the page, never stored

/** Acknowledges; the admin secret is asked for once. */
function askToAcknowledge(alarm) {
  const dialog = $('#acknowledge');
  $('#ack-what').textContent = sentence(alarm);
  $('#ack-error').textContent = '';
  $('#ack-secret').closest('label').hidden = secret != null;
  $('#ack-form').onsubmit = async (event) => {
    event.preventDefault();
    const used = secret ?? $('#ack-secret').value;
    try {
      await post('alarms/ack', signed('alarm', { alarm: alarm.no }, used, Math.round(managerNow())));
      secret = used;
      dialog.close();
      emit('poll');
    } catch (error) {
      secret = null;
      $('#ack-secret').closest('label').hidden = false;
      $('#ack-error').textContent = `${error.message}. ${error.hint ?? ''}`;
    }
    $('#ack-secret').value = '';
  };
  dialog.showModal();
}
