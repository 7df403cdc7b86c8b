// What the page shows now: one object, and who wants to know when a part of it changes.

import { HEALTHS, LAYERS, STATES } from './marks.js';

export const state = {
  /** The model of the map that is shown (model.js), now or at `at`. */
  model: null,
  /** The latest model, whatever is shown. */
  present: null,
  /** The past moment that is shown (ms); `null` is now. */
  at: null,
  /** The manager's clock at the last answer (ms), and the browser's then. */
  now: 0,
  heard: 0,
  agents: [],
  agentById: new Map(),
  alarms: [],
  /** Silences in force: `{target, until}`. */
  silences: [],
  alarmsError: null,
  /** `{type: 'node' | 'link' | 'interface' | 'alarm', id, interface?, shows?}` or `null`; an alarm shows another. */
  selection: null,
  /** The answer of a path query that is drawn, or `null`. */
  path: null,
  /** Only the neighbourhood of the selected node is shown. */
  focus: false,
  collapsed: false,
  /** Interfaces of the hosts that are unfolded, by id. */
  unfolded: new Map(),
  filter: {
    // Deliveries to the manager would cover the map: that layer is shown when asked for.
    layers: new Set(LAYERS.map((layer) => layer.id).filter((id) => id !== 'relay')),
    states: new Set(STATES.map((mark) => mark.id)),
    healths: new Set(HEALTHS.map((mark) => mark.id)),
    site: '',
    /** Id of the agent that is shown alone with what it is linked to, or nothing. */
    agent: '',
  },
};

const listeners = new Map();

export function on(event, listener) {
  if (!listeners.has(event)) listeners.set(event, []);
  listeners.get(event).push(listener);
}

export function emit(event, ...details) {
  for (const listener of listeners.get(event) ?? []) listener(...details);
}

/** The agent of this name or id. */
export const agentNamed = (text) => state.agentById.get(text) ?? state.agents.find((agent) => agent.hostname === text);

/** The manager's clock now (ms), as far as the page knows it. */
export const managerNow = () => (state.heard ? state.now + Date.now() - state.heard : Date.now());

/** The moment that is shown (ms). */
export const shownAt = () => state.at ?? managerNow();

/** Selects a node, link, interface or alarm, or nothing; `options` are `focus` (the panel) and `zoom` (the map). */
export function select(selection, options = {}) {
  state.selection = selection;
  if (!selection) state.focus = false;
  emit('selection', options);
}
