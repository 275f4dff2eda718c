// How people deal with each other in a call, and with its door: mute, hands, chat, kick, lock, full rooms, passwords, missing devices.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { artifacts, chromium, guest, person, seesAndHears } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { openAsOwner, prepare, proofOf } from './lib/rooms.mjs';
import { scenario } from './lib/scenario.mjs';
import { until } from './lib/until.mjs';
import { WireClient } from './lib/wireclient.mjs';

const small = { camera: 'small' };

/** Two people in one browser, in a call. */
async function couple(cleanup, relay, room) {
  const browser = await chromium(cleanup, small);
  const people = [await guest(browser, 'Ana', room.url), await guest(browser, 'Bo', room.url)];
  for (const someone of people) await seesAndHears(someone, 1);
  return people;
}

/** How the page names a tile to a screen reader: name, muted, hand raised. */
const spoken = someone => someone.page.$eval('[data-user-id][data-link]', tile => tile.getAttribute('aria-label'));

/** Presses Join for as long as the page asks for it again. */
async function joinAnyway(someone) {
  await until(`${someone.name} to be inside`, async () => {
    if ((await someone.state()) === 'online') return true;
    await someone.page.$eval('#join', button => button.click()).catch(() => {});
    return false;
  }, { every: 1_000 });
}

scenario('mute, camera off and a raised hand are shown to the other', async cleanup => {
  const relay = await startRelay(cleanup);
  const [ana, bo] = await couple(cleanup, relay, newRoom(relay));
  await ana.press('#mute');
  await until('Bo to see that Ana is muted', async () => /muted/i.test(await spoken(bo)));
  await ana.press('#hand');
  await until('Bo to see Ana’s hand', async () => /hand/i.test(await spoken(bo)));
  await ana.press('#camera');
  await until('Bo to see no picture of Ana', () => bo.page.$eval('[data-user-id][data-link]', tile => !tile.classList.contains('pictured')));
  await bo.picture('call-muted-hand-no-camera');
  await ana.press('#camera');
  await ana.press('#mute');
  await until('the picture to return', () => bo.page.$eval('[data-user-id][data-link]', tile => tile.classList.contains('pictured')));
  await until('the voice to return', async () => !/muted/i.test(await spoken(bo)));
  const before = await bo.inbound();
  await until('fresh pictures', async () => {
    const frames = links => links.flatMap(link => Object.values(link.media)).reduce((sum, one) => sum + one.frames, 0);
    return frames(await bo.inbound()) > frames(before) + 5;
  });
  assert.deepEqual([...ana.problems, ...bo.problems], []);
});

scenario('chat goes both ways', async cleanup => {
  const relay = await startRelay(cleanup);
  const [ana, bo] = await couple(cleanup, relay, newRoom(relay));
  await ana.press('#chat-open');
  await ana.type('#chat-input', 'shall we begin? see https://example.org/notes');
  await ana.page.focus('#chat-input');
  await ana.page.keyboard.press('Enter');
  await until('Bo to be told', () => bo.page.$eval('#chat-open', button => /1/.test(button.textContent)));
  await bo.press('#chat-open');
  await until('Bo to read it', async () => (await bo.text('#chat-log')).includes('shall we begin?'));
  const address = await bo.page.$eval('#chat-log a', link => ({ href: link.href, rel: link.rel }));
  assert.equal(address.href, 'https://example.org/notes');
  assert.match(address.rel, /noopener/);
  await bo.type('#chat-input', 'yes, in a minute');
  await bo.page.focus('#chat-input');
  await bo.page.keyboard.press('Enter');
  await until('Ana to read the answer', async () => (await ana.text('#chat-log')).includes('yes, in a minute'));
  await ana.picture('call-chat');
});

scenario('a shared screen comes as a picture of its own, beside the camera', async cleanup => {
  const relay = await startRelay(cleanup);
  const [ana, bo] = await couple(cleanup, relay, newRoom(relay));
  // Sharing needs a real press.
  await ana.page.click('#share');
  const both = await until('Bo to decode camera and screen', async () => {
    const [link] = await bo.inbound();
    const video = Object.values(link.media).filter(one => one.kind === 'video' && one.frames > 5);
    return video.length === 2 && video;
  });
  console.log('camera and screen:', JSON.stringify(both));
  await until('a tile for the screen', () => bo.visible('[data-screen-of]'));
  await bo.picture('call-screen-share');
  await ana.page.click('#share');
  await until('the tile to go', async () => !(await bo.page.$('[data-screen-of]')));
  assert.equal((await bo.tiles()).length, 1, 'the camera stays');
});

scenario('who is kicked leaves, is told, and does not come back by itself', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const owner = await openAsOwner(cleanup, relay, room);
  const ana = await guest(await chromium(cleanup, small), 'Ana', room.url);
  const joined = await owner.hears('user_joined');
  assert.equal((await owner.ask({ type: 'kick', targetId: joined.participant.userId })).type, 'done');
  await ana.page.waitForSelector('#left-reason', { visible: true });
  const words = await ana.text('#left-reason');
  console.log('Ana reads:', words);
  assert.match(words, /removed|owner/i);
  const left = await owner.everHears('user_left');
  assert.equal(left.reason, 'kicked');
  await ana.picture('kicked');
});

scenario('the owner locks the room and removes somebody in the page', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const [ana, bo] = await couple(cleanup, relay, room);
  await ana.press('#more');
  await ana.press('#room-options');
  await ana.page.waitForSelector('dialog[open]');
  await ana.picture('owner-panel');
  // The first switch of the panel is the lock.
  await ana.page.$eval('dialog[open] input[type=checkbox]', box => box.click());
  await until('the room to be locked', async () => {
    const outsider = await WireClient.connect(cleanup, relay, { from: '127.82.1.1' });
    const answer = await outsider.join(room.roomId, proofOf(room));
    outsider.leave();
    return answer.code === 'ROOM_LOCKED';
  }, { every: 1_000 });
  await ana.page.keyboard.press('Escape');

  const late = await person(await chromium(cleanup, small), 'Late');
  await late.open(room.url);
  await late.join({ wait: false });
  await until('the door to say that it is locked', async () => /locked/i.test(await late.text('#prejoin-status')));
  await late.picture('room-locked');

  await ana.press('#people-open');
  await ana.page.waitForFunction(() => document.querySelector('aside')?.textContent.includes('Bo'));
  await ana.picture('people-panel');
  assert.deepEqual([...ana.problems, ...bo.problems], []);
  await ana.page.$$eval('aside button[aria-label]', buttons => buttons.find(button => !button.hidden && /remove/i.test(button.ariaLabel)).click());
  await ana.press('dialog[open] button.danger');
  await bo.page.waitForSelector('#left-reason', { visible: true });
  await until('Ana to be alone', async () => (await ana.tiles()).length === 0);
});

scenario('a full room says how many it takes', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const owner = await openAsOwner(cleanup, relay, room);
  assert.equal((await owner.ask({ type: 'update_settings', maxParticipants: 2 })).type, 'done');
  const second = await WireClient.connect(cleanup, relay, { from: '127.82.2.1' });
  assert.equal((await second.join(room.roomId, proofOf(room))).type, 'room_joined');
  const late = await person(await chromium(cleanup, small), 'Late');
  await late.open(room.url);
  await late.join({ wait: false });
  await until('the door to say that it is full', async () => /full.*2|2.*full/i.test(await late.text('#prejoin-status')));
  await late.picture('room-full');
});

scenario('the password is asked for, its hint comes only after a wrong one, and the right one opens', async cleanup => {
  const relay = await startRelay(cleanup);
  for (const sealed of [true, false]) {
    const room = newRoom(relay, { sealed });
    await prepare(cleanup, relay, room, { password: 'camomile', hint: 'what we drank in Bruges' });
    const browser = await chromium(cleanup, small);
    const ana = await person(browser, 'Ana');
    await ana.open(room.url);
    const page = () => ana.page.evaluate(() => document.body.textContent);
    await ana.press('#join');
    await ana.doorAnswers();
    await ana.page.waitForSelector('#password', { visible: true });
    assert.ok(!(await page()).includes('Bruges'), 'no hint before a try');
    await ana.picture(`password-asked-${sealed ? 'sealed' : 'open'}`);
    await ana.type('#password', 'mint');
    await ana.press('#join');
    await until('the hint', async () => (await ana.text('#prejoin-status')).includes('Bruges'));
    await ana.picture(`password-wrong-${sealed ? 'sealed' : 'open'}`);
    await ana.type('#password', 'camomile');
    await ana.press('#join');
    await ana.online();
    await ana.close();
  }
});

scenario('the owner sets and clears a password in the page', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const ana = await guest(await chromium(cleanup, small), 'Ana', room.url);
  await ana.press('#more');
  await ana.press('#room-options');
  await ana.type('#room-password', 'over the hills');
  await ana.press('dialog[open] form button[type=submit]');
  const door = async password => {
    const guestClient = await WireClient.connect(cleanup, relay, { from: '127.82.3.1' });
    const answer = await guestClient.join(room.roomId, { password, ...proofOf(room) });
    guestClient.leave();
    return answer.type;
  };
  await until('the room to ask for it', async () => (await door(undefined)) === 'auth_required', { every: 1_000 });
  await ana.picture('owner-password-set');
  assert.equal(await door('over the hills'), 'room_joined');
  await ana.page.$$eval('dialog[open] form button[type=button]', buttons => buttons.at(-1).click());
  await until('the room to be open', async () => (await door(undefined)) === 'room_joined', { every: 1_000 });
});

scenario('somebody without camera and microphone joins, sees and hears', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const bo = await guest(await chromium(cleanup, small), 'Bo', room.url);
  const ana = await person(await chromium(cleanup, { camera: 'none' }), 'Ana');
  await ana.open(room.url);
  await ana.press('#join');
  await until('the page to say what is missing', async () => {
    const words = await ana.page.evaluate(() => document.querySelector('.prejoin')?.textContent ?? '');
    return /no (camera|microphone)|not find|not found/i.test(words) || (await ana.state()) === 'online';
  });
  await ana.picture('no-devices');
  await joinAnyway(ana);
  await seesAndHears(ana, 1);
  await until('Bo to see Ana without picture and sound', async () => /muted/i.test(await spoken(bo)));
  await bo.picture('call-with-somebody-without-devices');
});

scenario('a denied permission is explained in plain words, and the call works without', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const browser = await chromium(cleanup, { camera: 'small', ask: true, args: ['--deny-permission-prompts'] });
  const ana = await person(browser, 'Ana');
  await ana.open(room.url);
  await ana.press('#join');
  const words = await until('the page to explain', async () => {
    const text = await ana.text('#device-problem');
    return text && /allow|permission|blocked|browser/i.test(text) && text;
  });
  console.log('Ana reads:', words);
  assert.doesNotMatch(words, /NotAllowedError|getUserMedia|undefined/);
  await ana.picture('permission-denied');
  await joinAnyway(ana);
});

scenario('keys mute, raise the hand, open the chat and list themselves, but not while somebody types', async cleanup => {
  const relay = await startRelay(cleanup);
  const [ana] = await couple(cleanup, relay, newRoom(relay));
  const pressed = selector => ana.page.$eval(selector, button => button.getAttribute('aria-pressed'));
  await ana.page.evaluate(() => document.activeElement?.blur());
  await ana.page.keyboard.press('m');
  await until('to be muted', async () => (await pressed('#mute')) === 'true');
  // Held, the space bar opens the microphone; let go, it closes it.
  await ana.page.keyboard.down('Space');
  await until('to be heard while the key is held', async () => (await pressed('#mute')) === 'false');
  await ana.page.keyboard.up('Space');
  await until('to be muted again', async () => (await pressed('#mute')) === 'true');
  await ana.page.keyboard.press('m');
  await until('to be heard', async () => (await pressed('#mute')) === 'false');
  await ana.page.keyboard.press('h');
  await until('the hand to be up', async () => (await pressed('#hand')) === 'true');
  await ana.page.keyboard.press('v');
  await until('the camera to be off', async () => (await pressed('#camera')) === 'true');
  await ana.page.keyboard.press('t');
  await ana.page.waitForSelector('#chat-input', { visible: true });
  await ana.page.focus('#chat-input');
  await ana.page.keyboard.type('mhv');
  assert.equal(await ana.page.$eval('#chat-input', field => field.value), 'mhv');
  assert.equal(await pressed('#mute'), 'false', 'typing mutes nobody');
  await ana.page.keyboard.press('Escape');
  await until('the chat to close', async () => !(await ana.page.$('#chat-input')));
  await ana.page.evaluate(() => document.activeElement?.blur());
  await ana.page.keyboard.press('?');
  await ana.page.waitForSelector('dialog[open]');
  await ana.picture('shortcut-list');
});

scenario('a recovery link brings the ownership to another browser, and a rotated one is dead', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const owner = await openAsOwner(cleanup, relay, room);
  const link = `${room.url}&owner=${room.ownerToken}`;
  const ana = await guest(await chromium(cleanup, small), 'Ana', link);
  assert.ok(!ana.page.url().includes(room.ownerToken), 'the token leaves the address');
  await ana.press('#more');
  await until('the owner’s entry in the menu', () => ana.visible('#room-options'));
  await ana.press('#room-options');
  await ana.page.waitForSelector('#recovery-link');
  const shown = await ana.page.$eval('#recovery-link', field => field.value);
  assert.equal(shown, link, 'the panel shows the recovery link');

  const rotated = await owner.ask({ type: 'rotate_owner_token' }, ['owner_token', 'error']);
  assert.equal(rotated.type, 'owner_token');
  const thief = await WireClient.connect(cleanup, relay, { from: '127.82.4.1' });
  const seat = await thief.join(room.roomId, { ownerToken: room.ownerToken, ...proofOf(room) });
  assert.ok(seat.type !== 'room_joined' || seat.isOwner === false, `the old token is dead: ${JSON.stringify(seat)}`);
});

scenario('a link with a wrong owner’s token costs nobody the ownership, looked at or joined by', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  await openAsOwner(cleanup, relay, room);
  const ana = await guest(await chromium(cleanup, small), 'Ana', `${room.url}&owner=${room.ownerToken}`);
  const kept = () => ana.page.evaluate(id => JSON.parse(localStorage.getItem(`snug.owner.${id}`)), room.roomId);
  const wrong = `${room.url}&owner=${'A'.repeat(43)}`;
  for (const joins of [false, true]) {
    await ana.page.goto('about:blank');
    await ana.open(wrong);
    await until('the token to leave the address', () => !ana.page.url().includes('owner='));
    assert.equal(await kept(), room.ownerToken, 'the token is kept');
    if (!joins) continue;
    await ana.join();
    await ana.press('#more');
    await until('the owner’s entry in the menu', () => ana.visible('#room-options'));
    assert.equal(await kept(), room.ownerToken, 'the token is still kept');
    assert.equal(await ana.page.evaluate(id => localStorage.getItem(`snug.offered.${id}`), room.roomId), null, 'the wrong one is forgotten');
  }
});

scenario('the invitation’s QR code holds the guests’ link', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const ana = await guest(await chromium(cleanup, small), 'Ana', room.url);
  await ana.press('#invite');
  await ana.page.waitForSelector('dialog[open] svg, dialog[open] canvas', { visible: true });
  assert.equal(await ana.page.$eval('#invite-link', field => field.value), room.url);
  const path = `${artifacts}/invite.png`;
  await ana.page.screenshot({ path });
  const read = execFileSync('zbarimg', ['--quiet', '--raw', path], { encoding: 'utf8' }).trim();
  assert.equal(read, room.url);
});

scenario('somebody who leaves is gone for the others at once', async cleanup => {
  const relay = await startRelay(cleanup);
  const [ana, bo] = await couple(cleanup, relay, newRoom(relay));
  await ana.press('#leave');
  await ana.page.waitForSelector('#rejoin', { visible: true });
  await ana.picture('left');
  await until('Bo to be alone', async () => (await bo.tiles()).length === 0, { timeout: 5_000 });
  await bo.picture('call-alone');
  await ana.press('#rejoin');
  await ana.page.waitForSelector('#join', { visible: true });
});
