// The page begins here: it asks the manager again and again, and hands what changed to the panels.

import * as agents from './agents.js';
import * as alarms from './alarms.js';
import { get, setToken } from './api.js';
import * as details from './details.js';
import { $ } from './dom.js';
import * as exported from './exports.js';
import * as filters from './filters.js';
import * as map from './map.js';
import { build } from './model.js';
import * as notice from './notice.js';
import * as path from './path.js';
import * as search from './search.js';
import { emit, on, select, state } from './state.js';
import * as time from './time.js';

const POLL_MS = 5000;
const HIDDEN_MS = 30_000;
const RETRY_MAX_MS = 30_000;
const phone = matchMedia('(max-width: 720px)');

let timer;
let polling = false;
let failures = 0;

async function poll() {
  if (polling) return;
  polling = true;
  clearTimeout(timer);
  let wait = document.hidden ? HIDDEN_MS : POLL_MS;
  try {
    await ask();
    failures = 0;
    tokenState = 'new';
    notice.answered();
    emit('polled');
  } catch (error) {
    failures += 1;
    wait = Math.min(RETRY_MAX_MS, POLL_MS * failures);
    if (error.status === 401) tokenNeeded(error);
    notice.failed(error, wait);
    if (!error.status && !(error.name === 'ApiError' || error.hint !== undefined)) console.error(error);
  }
  polling = false;
  timer = setTimeout(poll, wait);
}

async function ask() {
  const [list, map, told] = await Promise.all([
    get('agents'),
    get('topology?detail=brief'),
    get('alarms').catch((error) => ({ error })),
  ]);
  state.now = list.body.now;
  state.heard = Date.now();
  const presences = state.agents.map((agent) => agent.id + agent.presence).join();
  state.agents = list.body.agents;
  state.agentById = new Map(state.agents.map((agent) => [agent.id, agent]));
  const moved = presences !== state.agents.map((agent) => agent.id + agent.presence).join();
  state.alarmsError = told.error?.message ?? null;
  state.alarms = told.body?.alarms ?? state.alarms;
  state.silences = told.body?.silences ?? state.silences;
  if (map.changed || moved || !state.present) {
    state.present = build(map.body, state.agentById, state.present);
    if (state.at == null) {
      state.model = state.present;
      emit('model');
    }
  }
  emit('agents');
  emit('alarms');
}

/** The dialog opens by itself once; when it was left, or the token was wrong, the reader decides. */
let tokenState = 'new';

function tokenNeeded(error) {
  const wrong = tokenState === 'sent';
  if (tokenState === 'new' || wrong) askForToken(wrong ? `${error.message}.` : '');
}

function askForToken(words = '') {
  const dialog = $('#token');
  if (dialog.open) return;
  tokenState = 'asked';
  $('#token-error').textContent = words;
  $('#token-form').onsubmit = (event) => {
    event.preventDefault();
    setToken($('#token-value').value.trim());
    $('#token-value').value = '';
    tokenState = 'sent';
    dialog.close();
    poll();
  };
  dialog.showModal();
}

/** Which page is shown; on a phone the lists are pages of their own. */
function page(name) {
  document.body.dataset.page = name;
  for (const button of document.querySelectorAll('[data-to]')) {
    if (button.dataset.to === name) button.setAttribute('aria-current', 'page');
    else button.removeAttribute('aria-current');
  }
  if (name !== 'map' && phone.matches && state.selection) select(null);
  if (['alarms', 'nodes', 'changes', 'path'].includes(name)) tab(name);
}

const TABS = ['alarms', 'nodes', 'changes', 'path'];

function tab(name, focus = false) {
  if (phone.matches && document.body.dataset.page !== name && document.body.dataset.page !== 'map') page(name);
  for (const id of TABS) {
    const button = $(`#tab-${id}`);
    button.setAttribute('aria-selected', String(id === name));
    button.tabIndex = id === name ? 0 : -1;
    $(`#panel-${id}`).hidden = id !== name;
    if (id === name && focus) button.focus();
  }
}

function chrome() {
  for (const button of document.querySelectorAll('[data-to]')) button.onclick = () => page(button.dataset.to);
  for (const [i, id] of TABS.entries()) {
    const button = $(`#tab-${id}`);
    button.onclick = () => tab(id);
    button.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) tab(TABS[(i + step + TABS.length) % TABS.length], true);
    };
  }
  for (const button of document.querySelectorAll('dialog .cancel')) button.onclick = () => button.closest('dialog').close();
  $('.skip').onclick = (event) => {
    event.preventDefault();
    if (phone.matches) page('nodes');
    tab('nodes', true);
  };
  $('#theme').onclick = () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === 'dark';
    document.documentElement.dataset.theme = dark ? 'light' : 'dark';
    try {
      localStorage.setItem('kattila.theme', dark ? 'light' : 'dark');
    } catch {
      // No storage allowed: the choice lasts as long as the page.
    }
    emit('theme');
  };
  addEventListener('keydown', (event) => {
    if (event.target.matches('input:not([type=checkbox]):not([type=range]), select, textarea')) return;
    if (event.key === '/') {
      event.preventDefault();
      $('#q').focus();
    } else if (event.key === 'Escape' && (state.selection || state.path)) {
      state.path = null;
      select(null);
    }
  });
  document.addEventListener('visibilitychange', () => !document.hidden && poll());
}

/** The selection and the moment stand in the address, to be sent to others. */
function remember() {
  const words = new URLSearchParams();
  const { selection } = state;
  if (selection && selection.type !== 'alarm') words.set(selection.type, selection.interface ? `${selection.id}/${selection.interface}` : selection.id);
  if (state.at != null) words.set('at', state.at);
  history.replaceState(null, '', words.size ? `#${words}` : location.pathname + location.search);
}

async function recall() {
  const words = new URLSearchParams(location.hash.slice(1));
  const at = Number(words.get('at'));
  if (at > 0) await time.show(at);
  for (const type of ['node', 'link']) if (words.has(type)) select({ type, id: words.get(type) }, { zoom: true });
  const [id, name] = (words.get('interface') ?? '').split('/');
  if (name) select({ type: 'interface', id, interface: name }, { zoom: true });
  on('selection', remember);
}

for (const part of [filters, map, search, alarms, details, agents, path, time, exported]) part.start();
chrome();
notice.refresh();
setInterval(notice.refresh, 1000);
on('page', page);
on('tab', tab);
on('poll', poll);
on('token', askForToken);
on('live', notice.refresh);
on('model', notice.refresh);
on('unfold', map.unfold);
on('unfolded', () => emit('alarms'));
on('ready', recall);
poll().then(time.load);
