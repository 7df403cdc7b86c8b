// An admin's word, signed as DESIGN.md 2.2 says: the secret itself never leaves the browser.
// SHA-256 is here (FIPS 180-4) because crypto.subtle is missing where a page is read over plain HTTP.

const utf8 = (text) => new TextEncoder().encode(text);
/** Base64 for URLs, without padding. */
const base64 = (bytes) =>
  btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');

/** The first 32 bits of the fractional parts of roots of the first primes. */
function constants(count, root) {
  const found = [];
  for (let n = 2; found.length < count; n += 1) {
    let prime = true;
    for (let d = 2; d * d <= n; d += 1) if (n % d === 0) prime = false;
    if (prime) found.push(Math.floor((root(n) % 1) * 2 ** 32) | 0);
  }
  return found;
}
const K = constants(64, Math.cbrt);
const START = constants(8, Math.sqrt);

export function sha256(bytes) {
  const blocks = Math.ceil((bytes.length + 9) / 64);
  const padded = new Uint8Array(64 * blocks);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor((bytes.length * 8) / 2 ** 32));
  view.setUint32(padded.length - 4, (bytes.length * 8) >>> 0);
  const hash = Int32Array.from(START);
  const w = new Int32Array(64);
  const turn = (x, n) => (x >>> n) | (x << (32 - n));
  for (let at = 0; at < padded.length; at += 64) {
    for (let t = 0; t < 16; t += 1) w[t] = view.getInt32(at + 4 * t);
    for (let t = 16; t < 64; t += 1) {
      const s0 = turn(w[t - 15], 7) ^ turn(w[t - 15], 18) ^ (w[t - 15] >>> 3);
      const s1 = turn(w[t - 2], 17) ^ turn(w[t - 2], 19) ^ (w[t - 2] >>> 10);
      w[t] = w[t - 16] + s0 + w[t - 7] + s1;
    }
    let [a, b, c, d, e, f, g, h] = hash;
    for (let t = 0; t < 64; t += 1) {
      const one = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + K[t] + w[t]) | 0;
      const two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => { hash[i] += word; });
  }
  const out = new DataView(new ArrayBuffer(32));
  hash.forEach((word, i) => out.setInt32(4 * i, word));
  return new Uint8Array(out.buffer);
}

function join(...parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export function hmac(secret, message) {
  const key = new Uint8Array(64);
  key.set(secret.length > 64 ? sha256(secret) : secret);
  const inner = sha256(join(key.map((byte) => byte ^ 0x36), message));
  return sha256(join(key.map((byte) => byte ^ 0x5c), inner));
}

function number(value, size) {
  const view = new DataView(new ArrayBuffer(size));
  if (size === 4) view.setUint32(0, value);
  else view.setBigInt64(0, BigInt(value));
  return new Uint8Array(view.buffer);
}

/** The envelope of an admin's order: `kind` and its payload, signed with the admin secret at `sentAt` (ms). */
export function order(kind, payload, secret, sentAt) {
  const [boot, nonce] = [crypto.getRandomValues(new Uint8Array(16)), crypto.getRandomValues(new Uint8Array(16))];
  const agent = new Uint8Array(16);
  const json = utf8(JSON.stringify(payload));
  const fields = [utf8('kattila/1'), utf8(kind), agent, boot, number(1, 8), number(sentAt, 8), nonce, utf8('json'), json];
  const signed = join(...fields.flatMap((field) => [number(field.length, 4), field]));
  const mac = hmac(hmac(utf8(secret), utf8(`kattila/1${kind}`)), signed);
  const line = ['k1', kind, base64(agent), base64(boot), 1, sentAt, base64(nonce), 'json', base64(mac)].join(' ');
  return join(utf8(`${line}\n`), json);
}
