import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fromBase64Url, newSecret, toBase64Url } from '../js/link.js';
import { SealError, Sealer, deriveLinkProof } from '../js/seal.js';

const golden = JSON.parse(readFileSync(new URL('../../relay/wire/golden/sealing.json', import.meta.url), 'utf8'));
const secret = fromBase64Url(golden.secret);
const { roomId } = golden;
const ANA = golden.vectors[0].senderId;
const BEN = golden.vectors[1].receiverId;

const pair = (link = newSecret()) => [
  new Sealer({ secret: link, roomId, selfId: ANA }),
  new Sealer({ secret: link, roomId, selfId: BEN }),
];
const refuses = (promise, problem) => assert.rejects(promise, (error) => error instanceof SealError && error.problem === problem);

test('the link proof is the golden one', async () => {
  assert.equal(await deriveLinkProof(secret, roomId), golden.linkProof);
});

test('every golden vector is sealed to the same bytes', async () => {
  const senders = new Map();
  for (const { kind, senderId, receiverId, counter, plaintext, sealed } of golden.vectors) {
    const state = senders.get(senderId) ?? { sealer: new Sealer({ secret, roomId, selfId: senderId }), counter: 0 };
    senders.set(senderId, state);
    while (state.counter < counter - 1) {
      await state.sealer.sealText('chat', '*', 'passed over');
      state.counter += 1;
    }
    assert.deepEqual(await state.sealer.sealText(kind, receiverId, plaintext), { sealed });
    state.counter += 1;
  }
});

test('every golden vector is opened', async () => {
  const receiver = new Sealer({ secret, roomId, selfId: BEN });
  for (const { kind, senderId, receiverId, plaintext, sealed } of golden.vectors) {
    assert.equal(await receiver.openText(kind, senderId, receiverId, { sealed }), plaintext);
  }
});

test('every golden refusal is refused for its reason', async () => {
  for (const { why, kind, senderId, receiverId, sealed } of golden.refused) {
    const receiver = new Sealer({ secret, roomId, selfId: receiverId });
    await refuses(receiver.open(kind, senderId, receiverId, { sealed }), why);
  }
});

test('payloads come out in the order they went in', async () => {
  const [ana] = pair();
  const order = [];
  const large = { sdp: 'x'.repeat(30_000) };
  await Promise.all([large, {}, large, {}].map((value, index) => ana.seal('offer', BEN, value).then(() => order.push(index))));
  assert.deepEqual(order, [0, 1, 2, 3]);
});

test('a payload sent twice is refused the second time, also when both copies are opened at once', async () => {
  const [ana, ben] = pair();
  const payload = await ana.seal('offer', BEN, { sdp: '' });
  const opened = await Promise.allSettled([ben.open('offer', ANA, BEN, payload), ben.open('offer', ANA, BEN, payload)]);
  // Which of the two is decrypted first is the machine's choice.
  const refusals = opened.flatMap((one) => (one.status === 'rejected' ? [one.reason.problem] : []));
  assert.deepEqual(refusals, ['replayed']);
});

test('the window is 1,024 counters deep', async () => {
  const [ana, ben] = pair();
  const sent = await Promise.all(Array.from({ length: 1026 }, (_, i) => ana.seal('chat', '*', { i })));
  await ben.open('chat', ANA, '*', sent[1024]);
  await refuses(ben.open('chat', ANA, '*', sent[0]), 'replayed');
  assert.deepEqual(await ben.open('chat', ANA, '*', sent[1]), { i: 1 });
  await refuses(ben.open('chat', ANA, '*', sent[1]), 'replayed');
});

test('many payloads are remembered without remembering all of them', async () => {
  const [ana, ben] = pair();
  const sent = await Promise.all(Array.from({ length: 2200 }, (_, i) => ana.seal('chat', '*', i)));
  await Promise.all(sent.map((payload) => ben.open('chat', ANA, '*', payload)));
  for (const index of [0, 1500, 2199]) await refuses(ben.open('chat', ANA, '*', sent[index]), 'replayed');
});

test('a refused payload is not remembered: the true one is still taken', async () => {
  const [ana, ben] = pair();
  const { sealed } = await ana.seal('offer', BEN, { sdp: 'v=0' });
  const bytes = fromBase64Url(sealed);
  bytes[bytes.length - 1] ^= 1;
  await refuses(ben.open('offer', ANA, BEN, { sealed: toBase64Url(bytes) }), 'tampered');
  assert.deepEqual(await ben.open('offer', ANA, BEN, { sealed }), { sdp: 'v=0' });
});

test('a name may come again but an older one may not', async () => {
  const [ana, ben] = pair();
  const [old, young] = [await ana.seal('name', '*', { name: 'Ana' }), await ana.seal('name', '*', { name: 'Anna' })];
  await ben.open('name', ANA, '*', old);
  await ben.open('name', ANA, '*', young);
  assert.deepEqual(await ben.open('name', ANA, '*', young), { name: 'Anna' });
  await refuses(ben.open('name', ANA, '*', old), 'replayed');
});

test('what is not JSON inside is refused like any other change', async () => {
  const [ana, ben] = pair();
  await refuses(ben.open('chat', ANA, '*', await ana.sealText('chat', '*', '{')), 'tampered');
});

test('there is no quiet fall-back to plain payloads in either direction', async () => {
  const [ana, ben] = pair();
  const open = new Sealer({ secret: null, roomId, selfId: BEN });
  assert.deepEqual(await open.seal('chat', '*', { text: 'hi' }), { plain: '{"text":"hi"}' });
  assert.deepEqual(await open.open('chat', ANA, '*', { plain: '{"text":"hi"}' }), { text: 'hi' });
  await refuses(ben.open('offer', ANA, BEN, { plain: '{}' }), 'not_sealed');
  await refuses(open.open('offer', ANA, BEN, await ana.seal('offer', BEN, {})), 'no_secret');
});
