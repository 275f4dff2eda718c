// Whatever people type is shown as text: names, chat, hints, room names. Forty hostile texts in each place.

import assert from 'node:assert/strict';
import { assertUnharmed, HOSTILE } from './lib/hostile-texts.mjs';
import { chromium, guest, person, seesAndHears } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { openAsOwner, prepare } from './lib/rooms.mjs';
import { scenario } from './lib/scenario.mjs';
import { until } from './lib/until.mjs';
import { WireClient } from './lib/wireclient.mjs';

const squeeze = text => text.replace(/\s+/g, ' ').trim();

scenario('a hostile name is shown as it was typed, and nothing runs', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay, { sealed: false });
  const ana = await guest(await chromium(cleanup, { camera: 'small' }), 'Ana', room.url);
  for (const [number, text] of HOSTILE.entries()) {
    const other = await WireClient.connect(cleanup, relay, { from: `127.81.${number}.1` });
    await other.join(room.roomId, { name: text });
    const shown = squeeze(text).slice(0, 40);
    await until(`the name ${text} to be shown`, async () => (await ana.tiles()).some(tile => tile.text.includes(shown)), { timeout: 10_000 });
    other.leave();
    await until('the tile to go', async () => (await ana.tiles()).length === 0, { timeout: 10_000 });
  }
  await assertUnharmed(ana, 'names');
});

scenario('a hostile chat message is shown as it was typed, and nothing runs', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const browser = await chromium(cleanup, { camera: 'small' });
  const ana = await guest(browser, 'Ana', room.url);
  const bo = await guest(browser, 'Bo', room.url);
  await seesAndHears(ana, 1);
  await ana.press('#chat-open');
  await bo.press('#chat-open');
  for (const text of HOSTILE) {
    await bo.type('#chat-input', text);
    await bo.page.focus('#chat-input');
    await bo.page.keyboard.press('Enter');
  }
  await until('the last message to arrive', async () => (await ana.text('#chat-log')).includes(HOSTILE.at(-1)));
  const log = await ana.text('#chat-log');
  for (const text of HOSTILE) assert.ok(log.includes(text), `shown literally: ${text}`);
  await assertUnharmed(ana, 'chat, received');
  await assertUnharmed(bo, 'chat, sent');
});

scenario('a hostile hint is shown as it was typed, and nothing runs', async cleanup => {
  const relay = await startRelay(cleanup);
  const browser = await chromium(cleanup, { camera: 'small' });
  for (const [number, hint] of HOSTILE.entries()) {
    // A room and a network each: one owner may set a few passwords only.
    const owner = await openAsOwner(cleanup, relay, newRoom(relay, { sealed: false }));
    // All texts go through the relay, every eighth through the page too: each with a relay of its own, since a fourth wrong password has to wait.
    const set = await owner.ask({ type: 'set_room_password', password: 'right', hint });
    assert.equal(set.type, 'done', JSON.stringify(set));
    owner.leave();
    if (number % 8 !== 0) continue;
    const fresh = await startRelay(cleanup);
    const room = newRoom(fresh, { sealed: false });
    await prepare(cleanup, fresh, room, { password: 'right', hint });
    const ana = await person(browser, 'Ana');
    await ana.open(room.url);
    await ana.join({ password: 'wrong', wait: false });
    await until('the hint to be shown', async () => squeeze(await ana.page.evaluate(() => document.body.textContent)).includes(squeeze(hint)));
    await assertUnharmed(ana, `hint ${hint}`);
    await ana.close();
  }
});

scenario('a hostile room name in the address makes no markup', async cleanup => {
  const relay = await startRelay(cleanup);
  const browser = await chromium(cleanup, { camera: 'small' });
  const ana = await person(browser, 'Ana');
  for (const text of HOSTILE) {
    for (const url of [`${relay.origin}/room/${encodeURIComponent(text)}`, `${relay.origin}/room/sunny-mountain-42#${encodeURIComponent(text)}`]) {
      await ana.page.goto(url, { waitUntil: 'load' }).catch(error => assert.match(error.message, /ERR_(ABORTED|HTTP)/));
      await ana.page.waitForFunction(() => document.readyState === 'complete');
      assert.equal(await ana.page.evaluate(() => window.__probe?.executed ?? 0), 0, url);
      assert.deepEqual(await ana.page.evaluate(() => window.__probe?.violations ?? []), [], url);
    }
  }
  for (const text of HOSTILE) {
    await ana.page.goto(relay.origin, { waitUntil: 'load' });
    await ana.type('#room-name', text);
    await ana.press('#enter');
    await until('the page to go there or to say why not', () =>
      ana.page.evaluate(() => location.pathname !== '/' || document.querySelector('#enter-problem')?.textContent),
    );
    await assertUnharmed(ana, text);
  }
});
