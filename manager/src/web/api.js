// Asking the manager. Answers are remembered with their ETag, so that what did not change is not sent again.

const remembered = new Map();
const REMEMBERED_MAX = 12;
const TIMEOUT_MS = 20_000;

/** Why a question has no answer: `status` is 0 when the manager was not reached. */
export class ApiError extends Error {
  constructor(status, message, hint) {
    super(message);
    this.status = status;
    this.hint = hint;
  }
}

function token() {
  try {
    return sessionStorage.getItem('kattila.token');
  } catch {
    return null;
  }
}

export function setToken(value) {
  try {
    sessionStorage.setItem('kattila.token', value);
  } catch {
    // No storage allowed: it will be asked for again.
  }
}

/** The JSON at `path` below `status/`, and whether it changed since it was last asked for. */
export async function get(path, signal) {
  const known = remembered.get(path);
  const headers = {};
  if (known) headers['If-None-Match'] = known.tag;
  if (token()) headers.Authorization = `Bearer ${token()}`;
  const answer = await request(`status/${path}`, { headers, cache: 'no-store' }, signal);
  if (answer.status === 304 && known) return { body: known.body, changed: false };
  const body = await json(answer);
  // A failing manager says so in the body of its health, which is still an answer.
  if (!answer.ok && !(path === 'healthcheck' && body.status)) throw refused(answer.status, body);
  const tag = answer.headers.get('ETag');
  if (tag) remember(path, { tag, body });
  return { body, changed: true };
}

/** The content at `path` below `status/`, to be saved. */
export async function file(path) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  const answer = await request(`status/${path}`, { headers, cache: 'no-store' });
  if (!answer.ok) throw refused(answer.status, await json(answer));
  return answer.blob();
}

/** Posts a signed envelope; resolves to the words of the answer, whose payload follows its first line. */
export async function post(path, envelope) {
  const headers = { 'Content-Type': 'application/vnd.kattila.envelope' };
  const answer = await request(`status/${path}`, { method: 'POST', headers, body: envelope });
  const text = await answer.text();
  // A signed answer is `k1 ack CODE ...` with JSON, or nothing, below it; an unsigned one is JSON.
  const [line, payload] = text.split('\n');
  const code = line.startsWith('k1 ack ') ? line.split(' ')[2] : null;
  let body = {};
  try {
    body = JSON.parse((code ? payload : text) || '{}');
  } catch {
    // No words: the code or the status says enough.
  }
  if (!answer.ok) throw refused(answer.status, body.error ? body : { error: { message: body.message ?? code ?? undefined } });
  return body.message ?? '';
}

async function request(url, options, signal) {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  try {
    return await fetch(url, { ...options, signal: signal ? AbortSignal.any([signal, timeout]) : timeout });
  } catch (error) {
    if (signal?.aborted) throw error;
    const slow = error.name === 'TimeoutError';
    throw new ApiError(0, slow ? `no answer within ${TIMEOUT_MS / 1000} s` : 'the manager cannot be reached', '');
  }
}

async function json(answer) {
  try {
    return await answer.json();
  } catch {
    throw new ApiError(answer.status, `status ${answer.status} without JSON`, 'Is something else at this address?');
  }
}

function refused(status, body) {
  const { message, hint } = body.error ?? {};
  return new ApiError(status, message ?? `status ${status}`, hint ?? '');
}

function remember(path, entry) {
  remembered.delete(path);
  remembered.set(path, entry);
  if (remembered.size > REMEMBERED_MAX) remembered.delete(remembered.keys().next().value);
}
