// An admin's orders on alarms, signed in the browser. The admin secret is asked for once and kept as long as the page.

import { post } from './api.js';
import { $, el } from './dom.js';
import { order as signed } from './sign.js';
import { emit, managerNow, state } from './state.js';

const HOURS = [[1, '1 hour'], [8, '8 hours'], [24, 'a day'], [7 * 24, 'a week'], [30 * 24, '30 days']];

let secret = null;

/** Takes note that somebody knows of the alarm. */
export function acknowledge(alarm) {
  ask({ title: 'Acknowledge', verb: 'Acknowledge', what: alarm.sentence, path: 'alarms/ack', payload: () => ({ alarm: alarm.no }) });
}

/** Chooses what is no longer told, and for how long. */
export function silence(alarm) {
  const targets = [[alarm.code, `every ${alarm.code}`], ...alarm.agents.map((id) => [id, `all of ${state.agentById.get(id)?.hostname || id.slice(0, 8)}`])];
  const options = (list) => list.map(([value, text]) => el('option', { value }, text));
  const target = el('select', { id: 'order-target' }, options(targets));
  const hours = el('select', { id: 'order-for' }, options(HOURS));
  ask({
    title: 'Silence', verb: 'Silence', path: 'alarms/silence',
    what: 'Alarms go on being found and shown; they are neither counted as firing nor sent to anyone.',
    choices: [el('label', {}, 'What', target), el('label', {}, 'For', hours)],
    payload: () => ({ target: target.value, for_s: 3600 * Number(hours.value) }),
  });
}

/** Ends a silence. */
export function lift(target) {
  const name = state.agentById.get(target)?.hostname ?? target;
  ask({ title: 'Lift the silence', verb: 'Lift', what: `Alarms of ${name} are told again.`, path: 'alarms/silence', payload: () => ({ target, for_s: 0 }) });
}

/** Asks for what is still needed, and sends; with the secret known and nothing to choose it is sent at once. */
function ask({ title, verb, what, path, payload, choices = [] }) {
  const dialog = $('#order');
  const go = $('#order-go');
  const field = $('#order-secret');
  const say = (text) => { $('#order-error').textContent = text; };
  $('#order-title').textContent = title;
  $('#order-what').textContent = what;
  $('#order-choices').replaceChildren(...choices);
  go.textContent = verb;
  field.value = '';
  say('');
  const needsSecret = (needs) => {
    field.closest('label').hidden = !needs;
    field.required = needs;
  };
  needsSecret(secret == null);
  const send = async () => {
    const used = secret ?? field.value;
    go.disabled = true;
    try {
      const words = await post(path, signed('alarm', payload(), used, Math.round(managerNow())));
      secret = used;
      if (dialog.open) dialog.close();
      $('#live').textContent = words;
      emit('poll');
    } catch (error) {
      secret = null;
      needsSecret(true);
      say(`${error.message}. ${error.hint ?? ''}`);
      if (!dialog.open) dialog.showModal();
    } finally {
      go.disabled = false;
    }
  };
  $('#order-form').onsubmit = (event) => {
    event.preventDefault();
    send();
  };
  if (secret != null && !choices.length) return send();
  return dialog.showModal();
}
