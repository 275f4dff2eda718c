// Who is let in, who comes back, and what everybody sees of it.

import assert from 'node:assert/strict';
import { chromium, guest, person, seesAndHears } from './lib/people.mjs';
import { newRoom, restartRelay, startRelay } from './lib/relay.mjs';
import { openAsOwner, proofOf } from './lib/rooms.mjs';
import { scenario } from './lib/scenario.mjs';
import { until } from './lib/until.mjs';
import { WireClient } from './lib/wireclient.mjs';

const small = { camera: 'small' };
const banner = someone => someone.text('#banner');

scenario('a guest who knocks is told to wait, may call it off, and is let in', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const owner = await openAsOwner(cleanup, relay, room);
  assert.equal((await owner.ask({ type: 'update_settings', lobby: true })).type, 'done');
  const bo = await person(await chromium(cleanup, small), 'Bo');
  await bo.open(room.url);
  await bo.join({ wait: false });
  await bo.page.waitForSelector('#waiting', { visible: true });
  await bo.picture('lobby-waiting');
  await bo.press('#cancel-waiting');
  await owner.hears('knock_gone');
  await bo.join({ wait: false });
  const knock = await owner.hears('knock');
  owner.say({ type: 'admit', targetId: knock.userId, admitted: false });
  await until('the page to say no', async () => /let you in|Nobody/.test(await bo.text('#prejoin-status')));
  await bo.join({ wait: false });
  owner.say({ type: 'admit', targetId: (await owner.hears('knock')).userId, admitted: true });
  await bo.online();
});

scenario('an owner’s page shows who knocks and lets them in or not', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const ana = await guest(await chromium(cleanup, small), 'Ana', room.url);
  await ana.press('#more');
  await ana.press('#room-options');
  await ana.page.waitForSelector('dialog[open]', { visible: true });
  await ana.page.evaluate(() => {
    [...document.querySelectorAll('dialog label')].find(label => /knock/.test(label.textContent)).querySelector('input').click();
  });
  await until('the lobby to be on', async () => /Saved/.test(await ana.text('#room-status')));
  await ana.picture('owner-panel');
  await ana.page.keyboard.press('Escape');
  const cy = await WireClient.connect(cleanup, relay, { from: '127.93.0.1' });
  const answer = { name: 'Cy', secret: room.secret, ...proofOf(room) };
  for (const [label, type] of [['Not now', 'error'], ['Let in', 'room_joined']]) {
    assert.equal((await cy.join(room.roomId, answer)).type, 'waiting');
    await until('the page to tell who knocks', async () => /Cy wants to come in/.test(await banner(ana)));
    await ana.picture('knock');
    await ana.page.evaluate(text => [...document.querySelectorAll('#banner button')].find(button => button.textContent.includes(text)).click(), label);
    assert.equal((await cy.hears(['room_joined', 'error'])).type, type);
    assert.doesNotMatch(await banner(ana), /Cy/);
  }
});

scenario('a page that is loaded again is the same person, in one tile, and nobody is told of another', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const ana = await guest(await chromium(cleanup, small), 'Ana', room.url);
  const bo = await guest(await chromium(cleanup, small), 'Bo', room.url);
  await seesAndHears(ana, 1);
  const [before] = await ana.tiles();
  await bo.page.reload();
  await bo.page.waitForSelector('#join', { visible: true });
  await bo.join();
  await seesAndHears(bo, 1);
  await until('one tile with a link', async () => {
    const tiles = await ana.tiles();
    return tiles.length === 1 && tiles[0].link === 'connected' && tiles[0].id === before.id;
  });
  assert.equal(await ana.page.evaluate(() => document.querySelectorAll('.tile.doubted').length), 0);
});

scenario('a second tab of one browser is a second person, and both stay', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const ana = await guest(await chromium(cleanup, small), 'Ana', room.url);
  const tab = await ana.page.browserContext().newPage();
  await tab.goto(room.url, { waitUntil: 'load' });
  await tab.waitForSelector('#join', { visible: true });
  await tab.$eval('#join', button => button.click());
  await until('the second tab to be online', () => tab.evaluate(() => document.querySelector('#call')?.dataset.state === 'online'));
  await until('the first one to see it', async () => (await ana.tiles()).length === 1);
  assert.equal(await ana.state(), 'online');
});

scenario('a page that lost its key and kept its ticket is marked as somebody with a new key', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const ana = await guest(await chromium(cleanup, small), 'Ana', room.url);
  const ben = await WireClient.connect(cleanup, relay, { from: '127.93.0.2' });
  const { ticket } = await ben.join(room.roomId, { name: 'Ben', secret: room.secret, ...proofOf(room) });
  const other = await WireClient.connect(cleanup, relay, { from: '127.93.0.2' });
  await other.join(room.roomId, { name: 'Ben', secret: room.secret, ticket, ...proofOf(room) });
  await until('the mark', () => ana.page.evaluate(() => document.querySelector('.tile.doubted .doubt')?.title));
  assert.match(await ana.page.evaluate(() => document.querySelector('.tile.doubted .doubt').title), /new key/);
  other.say({ type: 'toggle_recording', enabled: true });
  await until('the sign of a recording', async () => /recorded/.test(await banner(ana)));
  await ana.picture('new-key-and-recording');
});

scenario('after a restart a page is back past a password and a lock that were set in mid-call', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const owner = await openAsOwner(cleanup, relay, room);
  const ana = await guest(await chromium(cleanup, small), 'Ana', room.url);
  for (const message of [{ type: 'set_room_password', password: 'rex' }, { type: 'lock_room', locked: true }]) assert.equal((await owner.ask(message)).type, 'done');
  await relay.kill();
  await until('the page to notice', async () => (await ana.state()) === 'reconnecting', { timeout: 15_000 });
  await restartRelay(cleanup, relay);
  const returned = performance.now();
  await ana.online(15_000);
  console.log(`back after ${Math.round(performance.now() - returned)} ms`);
});
