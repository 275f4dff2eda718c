import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Identity, anonymous, importPublicKey, join, newRun, userIdOf, utf8, verifies } from '../js/identity.js';
import { fromBase64Url, newSecret, toBase64Url } from '../js/link.js';
import { SealError, Sealer, deriveLinkProof } from '../js/seal.js';

const golden = JSON.parse(readFileSync(new URL('../../relay/wire/golden/sealing.json', import.meta.url), 'utf8'));
const { roomId } = golden;
const secretOf = ({ secret }) => secret && fromBase64Url(secret);
const ROOMS = golden.rooms.map((room) => [room.secret ? 'with a secret' : 'without a secret', room]);
const refuses = (promise, problem) => assert.rejects(promise, (error) => error instanceof SealError && error.problem === problem);

/** A golden identity: its key cannot be exported from WebCrypto, so it comes in as what the file has. */
async function goldenIdentity({ privateKey, publicKey, userId }) {
  const [x, y] = [fromBase64Url(publicKey).slice(1, 33), fromBase64Url(publicKey).slice(33)].map(toBase64Url);
  const jwk = { kty: 'EC', crv: 'P-256', d: privateKey, x, y };
  const key = await crypto.subtle.importKey('jwk', jwk, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign']);
  return new Identity({ privateKey: key, publicKey, userId, lastRun: golden.run.startedMs, ticket: null });
}

/** A receiver that is none of the golden senders, and knows them all. */
async function goldenReceiver(room, { userId }) {
  const identity = { ...(await anonymous()), userId };
  const receiver = new Sealer({ secret: secretOf(room), roomId, identity });
  for (const one of golden.identities) if (one.userId !== userId) await receiver.introduce(one.userId, one.publicKey);
  return receiver;
}

/** Two who know each other. */
async function pair(secret = newSecret()) {
  const [a, b] = [await anonymous(), await anonymous()];
  const [ana, ben] = [a, b].map((identity) => new Sealer({ secret, roomId, identity }));
  await ana.introduce(b.userId, b.publicKey);
  await ben.introduce(a.userId, a.publicKey);
  return { ana, ben, ANA: a.userId, BEN: b.userId, a, b };
}

test('golden keys have the golden ids, and their proofs of a join are by them', async () => {
  for (const { publicKey, userId, nonce, keyProof } of golden.identities) {
    assert.equal(await userIdOf(publicKey), userId);
    const signed = join(utf8('snug/2\0join\0'), fromBase64Url(nonce), utf8(roomId));
    const key = await importPublicKey(publicKey);
    assert.ok(await verifies(key, fromBase64Url(keyProof), signed));
    signed[20] ^= 1;
    assert.ok(!(await verifies(key, fromBase64Url(keyProof), signed)));
  }
});

test('our proof of a join is what others check', async () => {
  const [golden0] = golden.identities;
  const identity = await goldenIdentity(golden0);
  const proof = await identity.prove(golden0.nonce, roomId);
  const signed = join(utf8('snug/2\0join\0'), fromBase64Url(golden0.nonce), utf8(roomId));
  assert.ok(await verifies(await importPublicKey(golden0.publicKey), fromBase64Url(proof), signed));
});

test('a run begins with the time and is the golden one', () => {
  const run = newRun(golden.run.startedMs, fromBase64Url(golden.run.random));
  const [{ payload }] = golden.rooms[0].vectors;
  assert.deepEqual(run, fromBase64Url(payload.sealed).slice(0, 16));
});

for (const [what, room] of ROOMS) {
  test(`the golden link proof ${what}`, async () => {
    if (room.secret) assert.equal(await deriveLinkProof(secretOf(room), roomId), room.linkProof);
    else assert.equal(room.linkProof, null);
  });

  test(`every golden vector ${what} is opened`, async () => {
    const receivers = new Map();
    for (const { kind, senderId, receiverId, plaintext, payload } of room.vectors) {
      const userId = receiverId === '*' ? golden.identities.find((one) => one.userId !== senderId).userId : receiverId;
      if (!receivers.has(userId)) receivers.set(userId, await goldenReceiver(room, { userId }));
      assert.equal(await receivers.get(userId).openText(kind, senderId, receiverId, payload), plaintext);
    }
  });

  test(`every golden refusal ${what} is refused for its reason`, async () => {
    for (const { why, kind, senderId, receiverId, payload } of room.refused) {
      const userId = why === 'reflected' ? senderId : receiverId;
      const receiver = await goldenReceiver(room, { userId: userId === '*' ? 'nobody' : userId });
      await refuses(receiver.open(kind, senderId, receiverId, payload), why);
    }
  });

  test(`what a golden identity seals ${what} is opened by another`, async () => {
    const [first, second] = golden.identities;
    const identity = await goldenIdentity(first);
    const sealer = new Sealer({ secret: secretOf(room), roomId, identity });
    const receiver = await goldenReceiver(room, second);
    const payload = await sealer.seal('offer', second.userId, { sdp: 'v=0' });
    assert.deepEqual(await receiver.open('offer', first.userId, second.userId, payload), { sdp: 'v=0' });
    await refuses(receiver.open('answer', first.userId, second.userId, payload), room.secret ? 'tampered' : 'not_signed');
  });
}

test('payloads come out in the order they went in', async () => {
  const { ana, BEN } = await pair();
  const order = [];
  const large = { sdp: 'x'.repeat(30_000) };
  await Promise.all([large, {}, large, {}].map((value, index) => ana.seal('offer', BEN, value).then(() => order.push(index))));
  assert.deepEqual(order, [0, 1, 2, 3]);
});

test('a payload sent twice is refused the second time, also when both copies are opened at once', async () => {
  const { ana, ben, ANA, BEN } = await pair();
  const payload = await ana.seal('offer', BEN, { sdp: '' });
  const opened = await Promise.allSettled([ben.open('offer', ANA, BEN, payload), ben.open('offer', ANA, BEN, payload)]);
  // Which of the two is decrypted first is the machine's choice.
  const refusals = opened.flatMap((one) => (one.status === 'rejected' ? [one.reason.problem] : []));
  assert.deepEqual(refusals, ['replayed']);
});

test('the window is 1,024 counters deep', async () => {
  const { ana, ben, ANA } = await pair();
  const sent = await Promise.all(Array.from({ length: 1026 }, (_, i) => ana.seal('chat', '*', { i })));
  await ben.open('chat', ANA, '*', sent[1024]);
  await refuses(ben.open('chat', ANA, '*', sent[0]), 'replayed');
  assert.deepEqual(await ben.open('chat', ANA, '*', sent[1]), { i: 1 });
  await refuses(ben.open('chat', ANA, '*', sent[1]), 'replayed');
});

test('many payloads are remembered without remembering all of them', async () => {
  const { ana, ben, ANA } = await pair();
  const sent = await Promise.all(Array.from({ length: 2200 }, (_, i) => ana.seal('chat', '*', i)));
  await Promise.all(sent.map((payload) => ben.open('chat', ANA, '*', payload)));
  for (const index of [0, 1500, 2199]) await refuses(ben.open('chat', ANA, '*', sent[index]), 'replayed');
});

test('a refused payload is not remembered: the true one is still taken', async () => {
  const { ana, ben, ANA, BEN } = await pair();
  const { sealed } = await ana.seal('offer', BEN, { sdp: 'v=0' });
  const bytes = fromBase64Url(sealed);
  bytes[bytes.length - 1] ^= 1;
  await refuses(ben.open('offer', ANA, BEN, { sealed: toBase64Url(bytes) }), 'tampered');
  assert.deepEqual(await ben.open('offer', ANA, BEN, { sealed }), { sdp: 'v=0' });
});

test('a name may come again but an older one may not', async () => {
  const { ana, ben, ANA } = await pair();
  const [old, young] = [await ana.seal('name', '*', { name: 'Ana' }), await ana.seal('name', '*', { name: 'Anna' })];
  await ben.open('name', ANA, '*', old);
  await ben.open('name', ANA, '*', young);
  assert.deepEqual(await ben.open('name', ANA, '*', young), { name: 'Anna' });
  await refuses(ben.open('name', ANA, '*', old), 'replayed');
});

test('what is not JSON inside is refused like any other change', async () => {
  const { ana, ben, ANA } = await pair();
  await refuses(ben.open('chat', ANA, '*', await ana.sealText('chat', '*', '{')), 'tampered');
});

test('there is no quiet fall-back to plain payloads in either direction', async () => {
  const { ana, ben, ANA, BEN, a, b } = await pair();
  const [openAna, openBen] = [a, b].map((identity) => new Sealer({ secret: null, roomId, identity }));
  await openBen.introduce(ANA, a.publicKey);
  const plain = await openAna.seal('chat', '*', { text: 'hi' });
  assert.equal(plain.plain, '{"text":"hi"}');
  assert.deepEqual(await openBen.open('chat', ANA, '*', plain), { text: 'hi' });
  await refuses(ben.open('offer', ANA, BEN, plain), 'not_sealed');
  await refuses(openBen.open('offer', ANA, BEN, await ana.seal('offer', BEN, {})), 'no_secret');
});

for (const secret of [newSecret(), null]) {
  const what = secret ? 'with a secret' : 'without a secret';

  test(`a member cannot speak as another, ${what}`, async () => {
    const { ben, BEN, ANA } = await pair(secret);
    const eve = await anonymous();
    // Eve has the link, and so every key but the signing keys of others: she seals under Ana's name.
    const forger = new Sealer({ secret, roomId, identity: Object.assign(eve, { userId: ANA }) });
    for (const kind of ['offer', 'answer', 'ice_candidate']) {
      await refuses(ben.open(kind, ANA, BEN, await forger.seal(kind, BEN, { sdp: 'of Eve' })), 'not_signed');
    }
    await refuses(ben.open('chat', ANA, '*', await forger.seal('chat', '*', { text: 'of Eve' })), 'not_signed');
  });

  test(`who is known by another key than that of the id is refused, ${what}`, async () => {
    const { ben, ANA, a } = await pair(secret);
    const eve = await anonymous();
    await refuses(ben.introduce(ANA, eve.publicKey), 'not_signed');
    assert.ok(await ben.introduce(ANA, a.publicKey), 'and the true one is still known');
    await refuses(ben.introduce((await anonymous()).userId, eve.publicKey), 'not_signed');
  });

  test(`what was kept from before its sender was started anew is outdated, and what the sender says then counts from the start, ${what}`, async () => {
    const { ana, ben, ANA, BEN, a } = await pair(secret);
    const [first, second] = [await ana.seal('offer', BEN, { n: 1 }), await ana.seal('offer', BEN, { n: 2 })];
    await ben.open('offer', ANA, BEN, second);
    const again = new Sealer({ secret, roomId, identity: Object.assign(a, { run: newRun(Date.now() + 5) }) });
    assert.deepEqual(await ben.open('offer', ANA, BEN, await again.seal('offer', BEN, { n: 3 })), { n: 3 });
    await refuses(ben.open('offer', ANA, BEN, first), 'outdated');
    await refuses(ben.open('offer', ANA, BEN, second), 'outdated');
  });

  test(`a relay that makes up more ids than anybody remembers keeps no newcomer out, ${what}`, async () => {
    const { ana, ben, ANA, BEN } = await pair(secret);
    await ben.open('offer', ANA, BEN, await ana.seal('offer', BEN, {}));
    const invented = await anonymous();
    for (let i = 0; i < 2000; i++) await ben.introduce(invented.userId.slice(0, 17) + String(10_000 + i), invented.publicKey).catch(() => {});
    const dan = await anonymous();
    const sealer = new Sealer({ secret, roomId, identity: dan });
    await ben.introduce(dan.userId, dan.publicKey);
    assert.deepEqual(await ben.open('chat', dan.userId, '*', await sealer.seal('chat', '*', 1)), 1);
  });
}

test('somebody without a key is heard in a room without a secret only, and only without a proof', async () => {
  const { ben, BEN } = await pair(null);
  const stranger = await anonymous();
  assert.equal(await ben.introduce(stranger.userId, undefined), false);
  assert.deepEqual(await ben.open('chat', stranger.userId, '*', { plain: '1' }), 1);
  await refuses(ben.open('offer', stranger.userId, BEN, await new Sealer({ secret: null, roomId, identity: stranger }).seal('offer', BEN, {})), 'not_signed');
  const { ben: sealed } = await pair();
  await refuses(sealed.introduce(stranger.userId, undefined), 'not_signed');
});

test('a participant with a key is not heard without a proof', async () => {
  const { ben, ANA } = await pair(null);
  await refuses(ben.open('chat', ANA, '*', { plain: '1' }), 'not_signed');
});
