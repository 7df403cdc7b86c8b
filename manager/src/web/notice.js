// What stands over the map: loading, no agents yet, no contact, old data, the past. One banner, one screen.

import { $, el, span, clock } from './dom.js';
import { emit, managerNow, state } from './state.js';

let failure = null;
let failedSince = null;

/** The manager did not answer. */
export function failed(error, nextTry) {
  failure = { error, nextTry };
  failedSince ??= Date.now();
  refresh();
}

export function answered() {
  failure = failedSince = null;
  refresh();
}

export function refresh() {
  screen();
  banner();
}

function screen() {
  const box = $('#screen');
  const kind = !state.model ? (failure ? 'error' : 'loading') : state.agents.length === 0 && !state.at ? 'empty' : '';
  const key = kind === 'error' ? `${kind} ${failure.error.message}` : kind;
  if (box.dataset.key === key) return; // as it is: a button in it may have the focus
  box.dataset.key = key;
  box.dataset.kind = kind;
  box.hidden = !kind;
  document.body.classList.toggle('empty', kind === 'empty');
  box.setAttribute('role', kind === 'error' ? 'alert' : 'status');
  if (kind === 'loading') box.replaceChildren(el('div', { class: 'spin', 'aria-hidden': 'true' }), el('h2', {}, 'Loading the map…'));
  if (kind === 'empty') box.replaceChildren(...firstRun());
  if (kind === 'error') box.replaceChildren(el('h2', {}, 'The map cannot be loaded'), el('p', {}, `${failure.error.message}. ${failure.error.hint ?? ''}`), again());
}

function firstRun() {
  const url = location.origin;
  const step = (...words) => el('li', {}, words);
  const code = (text) => el('code', { tabindex: '0' }, text);
  const local = /127\.0\.0\.1|localhost|\[::1\]/.test(url);
  return [
    el('h2', {}, 'No agent has reported yet'),
    el('p', {}, 'This manager runs. To see a host here:'),
    el('ol', {},
      step('On this machine, with the manager’s settings, have the manager print the one line that brings a host in:', code('manager -enroll')),
      step('Run that line on the host, as root.'),
    ),
    el('p', {}, 'Or by hand:'),
    el('ol', {},
      step('Copy the program ', el('b', {}, 'agent'), ' and the PSK that this manager uses to the host, the PSK readable by root only:', code('install -D -m 0600 psk /etc/kattila/psk')),
      step('Start it there, as root:', code(`MANAGER_URL=${local || url.startsWith('https:') ? `http://THIS-MACHINE:${location.port || 5086}` : url} PSK_FILE=/etc/kattila/psk ./agent`)),
    ),
    local ? el('p', { class: 'hint' }, 'THIS-MACHINE is the address by which the host reaches this machine, best one inside WireGuard. On this machine itself: ', code(`MANAGER_URL=${url} PSK_FILE=psk ./agent`)) : null,
    el('p', {}, 'The host appears within seconds. If it does not, ', el('b', {}, 'agent -check'), ' on it says what is missing, and ', el('a', { href: 'status/healthcheck' }, 'the manager’s health'), ' (', el('b', {}, 'refused'), ') says who was refused and why.'),
  ].filter(Boolean);
}

/** What to do about a failure: the token may be missing, otherwise it may be better by now. */
function again() {
  const [text, event] = failure.error.status === 401 ? ['Enter the token', 'token'] : ['Try now', 'poll'];
  return el('button', { type: 'button', onclick: () => emit(event) }, text);
}

function banner() {
  const box = $('#banner');
  const [text, tone, button] = words();
  const key = `${tone} ${text}`;
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  box.hidden = !text;
  box.className = tone;
  box.replaceChildren(text, button ?? '');
}

function words() {
  if (failure && state.model) {
    const age = span((Date.now() - failedSince) / 1000);
    const what = failure.error.status ? 'No answer to use from' : 'No contact with';
    return [`${what} the manager for ${age} (${failure.error.message}). The map shows its last answer. `, 'down', again()];
  }
  if (state.at != null) {
    const ago = span((managerNow() - state.at) / 1000);
    return [`The past: the map of ${clock(state.at, true)}, ${ago} ago. `, 'past', el('button', { type: 'button', onclick: () => emit('live') }, 'Back to now')];
  }
  const seen = state.agents.map((agent) => agent.last_seen).filter(Boolean);
  const interval = Math.max(10, ...state.agents.map((agent) => agent.interval_s ?? 30));
  const age = seen.length ? (managerNow() - Math.max(...seen)) / 1000 : 0;
  if (age > 3 * interval + 10) return [`No agent has reported for ${span(age)}: the map is old. `, 'stale'];
  return ['', ''];
}
