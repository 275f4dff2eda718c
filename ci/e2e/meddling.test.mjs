// A relay that is not honest. Whatever it changes on the way closes the link with the reason, in a room without a secret as well: there it
// can read everything, and sign nothing.

import assert from 'node:assert/strict';
import { chromium, guest, seesAndHears } from './lib/people.mjs';
import { startMeddler, swapFingerprints } from './lib/meddler.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { scenario } from './lib/scenario.mjs';
import { during, until } from './lib/until.mjs';

const DESCRIPTIONS = ['offer_received', 'answer_received'];

/** Somebody's complete description, with a fingerprint that belongs to nobody in the room. */
const INVENTED = swapFingerprints(
  [
    'v=0', 'o=- 1 2 IN IP4 127.0.0.1', 's=-', 't=0 0', 'a=group:BUNDLE 0',
    'm=audio 9 UDP/TLS/RTP/SAVPF 111', 'c=IN IP4 0.0.0.0', 'a=mid:0', 'a=sendrecv', 'a=rtcp-mux', 'a=rtpmap:111 opus/48000/2',
    'a=ice-ufrag:abcd', 'a=ice-pwd:abcdefghijklmnopqrstuvwx', 'a=setup:actpass',
    `a=fingerprint:sha-256 ${Array.from({ length: 32 }, (_, at) => (at * 7).toString(16).padStart(2, '0').toUpperCase()).join(':')}`,
    '',
  ].join('\r\n'),
);

/** Flips one bit in the middle of a sealed payload. */
function flipped(payload) {
  const bytes = Buffer.from(payload.sealed, 'base64url');
  bytes[bytes.length >> 1] ^= 1;
  return { sealed: bytes.toString('base64url') };
}

/** Puts two people into a call through a meddler. */
async function callThrough(cleanup, { sealed, change, overhear }) {
  const relay = await startRelay(cleanup);
  const meddler = await startMeddler(cleanup, relay, { change, overhear });
  const room = newRoom(relay, { sealed, origin: meddler.origin });
  const [first, second] = await Promise.all([chromium(cleanup), chromium(cleanup)]);
  const ana = await guest(first, 'Ana', room.url);
  const bo = await guest(second, 'Bo', room.url);
  return { meddler, people: [ana, bo] };
}

const framesOf = async someone =>
  (await someone.inbound()).flatMap(link => Object.values(link.media)).reduce((sum, one) => sum + one.frames + (one.kind === 'audio' ? one.packets : 0), 0);

/** Waits until a person's page refuses the link, and checks that it says so in words. */
async function refuses(someone) {
  await until(`${someone.name}'s page to refuse`, async () => {
    const tiles = await someone.tiles();
    return tiles.some(tile => tile.link === 'refused');
  });
  const words = `${await someone.text('#banner')} ${(await someone.tiles()).map(tile => tile.text).join(' ')}`;
  assert.match(words, /refused/i, `the page says what happened: ${words}`);
  assert.match(words, /changed on the way|security/i, `and why: ${words}`);
  console.log(`${someone.name} reads: ${words.trim()}`);
}

scenario('in an unsealed room too a relay that swaps fingerprints is caught, since it cannot sign', async cleanup => {
  const { meddler, people } = await callThrough(cleanup, {
    sealed: false,
    change(message, { meddler: shared }) {
      if (!DESCRIPTIONS.includes(message.type)) return [message];
      const content = JSON.parse(message.payload.plain);
      content.sdp = swapFingerprints(content.sdp);
      shared.touched += 1;
      return [{ ...message, payload: { ...message.payload, plain: JSON.stringify(content) } }];
    },
  });
  await until('a description to be changed', () => meddler.touched > 0);
  await refuses(people[0]);
  await people[0].picture('refused-not-signed');
  await during(2_000);
  for (const someone of people) assert.equal(await framesOf(someone), 0, `${someone.name} decoded something`);
});

scenario('an honest go-between changes nothing', async cleanup => {
  const { people } = await callThrough(cleanup, { sealed: true });
  for (const someone of people) await seesAndHears(someone, 1);
});

scenario('a sealed description with one flipped bit is refused', async cleanup => {
  const { meddler, people } = await callThrough(cleanup, {
    sealed: true,
    change(message, { meddler: shared }) {
      if (!DESCRIPTIONS.includes(message.type)) return [message];
      shared.touched += 1;
      return [{ ...message, payload: flipped(message.payload) }];
    },
  });
  await until('a description to be changed', () => meddler.touched > 0);
  await refuses(people[0]);
  await people[0].picture('refused-tampered');
  await during(2_000);
  for (const someone of people) assert.equal(await framesOf(someone), 0, `${someone.name} decoded something`);
});

scenario('a plain description with another fingerprint in place of the sealed one is refused', async cleanup => {
  const { meddler, people } = await callThrough(cleanup, {
    sealed: true,
    change(message, { meddler: shared }) {
      if (!DESCRIPTIONS.includes(message.type)) return [message];
      shared.touched += 1;
      return [{ ...message, payload: { plain: JSON.stringify({ sdp: INVENTED, session: 'AAAAAAAAAAA', restart: false }) } }];
    },
  });
  await until('a description to be changed', () => meddler.touched > 0);
  await refuses(people[0]);
  await people[0].picture('refused-not-sealed');
  await during(2_000);
  for (const someone of people) assert.equal(await framesOf(someone), 0, `${someone.name} decoded something`);
});

scenario('an answer with one flipped bit is refused by who offered', async cleanup => {
  const { meddler, people } = await callThrough(cleanup, {
    sealed: true,
    change(message, { meddler: shared }) {
      if (message.type !== 'answer_received') return [message];
      shared.touched += 1;
      return [{ ...message, payload: flipped(message.payload) }];
    },
  });
  await until('an answer to be changed', () => meddler.touched > 0);
  await refuses(people[1]);
  await during(2_000);
  assert.equal(await framesOf(people[1]), 0, 'Bo decoded something');
});

scenario('a description sent a second time is refused', async cleanup => {
  const { people } = await callThrough(cleanup, {
    sealed: true,
    change: message => (message.type === 'offer_received' ? [message, message] : [message]),
  });
  await refuses(people[0]);
  await people[0].picture('refused-replayed');
  await during(1_000);
  const before = await framesOf(people[0]);
  await during(2_000);
  assert.equal(await framesOf(people[0]), before, 'the closed link decodes nothing more');
});

scenario('a participant’s own description sent back under another name is refused', async cleanup => {
  const own = new Map();
  const { meddler, people } = await callThrough(cleanup, {
    sealed: true,
    overhear(message, context) {
      if (message.type === 'offer' || message.type === 'answer') own.set(context, message.payload);
    },
    change(message, context) {
      if (message.type !== 'answer_received' || !own.has(context)) return [message];
      context.meddler.touched += 1;
      return [{ ...message, payload: own.get(context) }];
    },
  });
  await until('a description to be sent back', () => meddler.touched > 0);
  await refuses(people[1]);
  await people[1].picture('refused-reflected');
  await during(2_000);
  assert.equal(await framesOf(people[1]), 0, 'Bo decoded something');
});

scenario('a participant’s own description under their own name makes no link', async cleanup => {
  const { meddler, people } = await callThrough(cleanup, {
    sealed: true,
    overhear(message, context) {
      if (message.type === 'offer') context.offer = message.payload;
    },
    change(message, context) {
      if (message.type !== 'answer_received' || !context.offer) return [message];
      context.meddler.touched += 1;
      return [message, { type: 'offer_received', fromId: context.userId, payload: context.offer }];
    },
  });
  await until('a description to be sent back', () => meddler.touched > 0);
  await during(3_000);
  for (const someone of people) {
    const tiles = await someone.tiles();
    assert.ok(tiles.length <= 1, `no tile for oneself: ${JSON.stringify(tiles)}`);
  }
});
