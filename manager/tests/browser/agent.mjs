// An agent's side of the protocol (DESIGN.md 2): signs reports and posts them.

import { createHash, createHmac, randomBytes } from 'node:crypto';
import { request } from 'node:http';

const VERSION = 'kattila/1';

function field(bytes) {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

const u64 = (number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(number));
  return bytes;
};

/** The id that a name always has, so that runs are alike. */
export const idOf = (name) => createHash('sha256').update(name).digest('hex').slice(0, 32);

/** A WireGuard public key that a name always has. */
export const keyOf = (name) => createHash('sha256').update(`key ${name}`).digest('base64');

/** The MAC of a message with this header. */
function macOf(secret, { kind, agent, boot, tick, sent_at: sentAt, nonce, encoding }, payload) {
  const key = createHmac('sha256', secret).update(`${VERSION}${kind}`).digest();
  const id = (text) => Buffer.from(text, 'hex');
  const fields = [Buffer.from(VERSION), Buffer.from(kind), id(agent), id(boot), u64(tick), u64(sentAt), id(nonce), Buffer.from(encoding), Buffer.from(payload)];
  return createHmac('sha256', key).update(Buffer.concat(fields.map(field))).digest('hex');
}

/** The envelope of one report. */
export function seal(psk, { agent, boot, tick }, report, sentAt = Date.now()) {
  const payload = Buffer.from(JSON.stringify(report));
  const nonce = randomBytes(16);
  const header = { kind: 'report', agent, boot, tick, sent_at: sentAt, nonce: nonce.toString('hex'), encoding: 'json' };
  const short = (hex) => Buffer.from(hex, 'hex').toString('base64url');
  const line = ['k1', 'report', short(agent), short(boot), tick, sentAt, short(header.nonce), 'json', short(macOf(psk, header, payload))].join(' ');
  return Buffer.concat([Buffer.from(`${line}\n`), payload]);
}

/** Posts an envelope; resolves to the code of the answer. */
export function post(base, body) {
  return new Promise((resolve, reject) => {
    const headers = { 'Content-Type': 'application/vnd.kattila.envelope', 'Content-Length': body.length };
    const call = request(`${base}/status/updates`, { method: 'POST', headers, agent: false }, (answer) => {
      let text = '';
      answer.setEncoding('utf8');
      answer.on('data', (part) => { text += part; });
      answer.on('end', () => resolve(answer.statusCode === 200 ? 'stored' : `${answer.statusCode} ${text.slice(0, 200)}`));
    });
    call.on('error', reject);
    call.end(body);
  });
}
