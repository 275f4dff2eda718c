// What a room promises its people, with natives alone: who crashed is the same person, safety words are the same at both ends, recordings
// are shown, and the owner lets in, mutes, hands over, makes a new link and ends the call.

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { native, recordings, state } from './lib/native.mjs';
import { newRoom, restartRelay, startRelay } from './lib/relay.mjs';
import { scenario } from './lib/scenario.mjs';
import { during } from './lib/until.mjs';

/** A person comes back within this after the program was started again. */
const BACK_MS = 5_000;

const quiet = { video: 'none', audio: 'none' };

const one = (snapshot, name) => snapshot.participants.find(other => other.name === name);

const meets = (someone, name) => someone.shows(`${name}, connected`, snapshot => one(snapshot, name)?.link === 'connected');

/** The owner, and somebody beside them. */
async function pair(cleanup, options = {}) {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay, options);
  const ana = native(cleanup, 'Ana', room.url, quiet);
  await ana.saw('owner_token');
  const bo = native(cleanup, 'Bo', room.url, quiet);
  await Promise.all([meets(ana, 'Bo'), meets(bo, 'Ana')]);
  return { relay, room, ana, bo };
}

const userOf = async (someone, name) => one(await someone.snapshot(), name).user;

scenario('a native client that is killed and started again is the same person to everybody, and leaves nothing behind when it leaves', async cleanup => {
  const { room, ana, bo: first } = await pair(cleanup);
  await first.leave();
  const keeps = state(cleanup);
  let bo = native(cleanup, 'Bo', room.url, { ...quiet, keeps });
  await meets(ana, 'Bo');
  const user = await userOf(ana, 'Bo');
  const joined = ana.events.filter(event => event.event === 'participant_joined').length;
  for (let crash = 1; crash <= 3; crash += 1) {
    // Of somebody who starts anew more often than that, not every start is followed at once.
    await during(2_500);
    await bo.kill();
    assert.deepEqual(readdirSync(keeps).length, 2, 'who it is, and the lock of the dead');
    const started = performance.now();
    bo = native(cleanup, 'Bo', room.url, { ...quiet, keeps });
    await ana.saw('participant_returned', event => event.user === user, { after: started });
    await ana.saw('link', event => event.user === user && event.state === 'connected', { after: started });
    const took = performance.now() - started;
    console.log(`connected again ${Math.round(took)} ms after the start`);
    assert.ok(took <= BACK_MS, `back only after ${Math.round(took)} ms`);
    const shown = await meets(ana, 'Bo');
    assert.deepEqual(shown.participants.map(other => [other.name, other.user, other.newKey, other.verified]), [['Bo', user, false, true]]);
  }
  assert.equal(ana.events.filter(event => event.event === 'participant_joined').length, joined, 'nobody came a second time');
  assert.equal((await bo.leave()).code, 0);
  assert.deepEqual(readdirSync(keeps), []);
});

scenario('two programs of one person in one room are two participants', async cleanup => {
  const { room, ana, bo } = await pair(cleanup);
  await bo.leave();
  const keeps = state(cleanup);
  native(cleanup, 'First', room.url, { ...quiet, keeps });
  await meets(ana, 'First');
  native(cleanup, 'Second', room.url, { ...quiet, keeps });
  await meets(ana, 'Second');
  assert.notEqual(await userOf(ana, 'First'), await userOf(ana, 'Second'));
});

for (const sealed of [true, false]) {
  scenario(`both ends of a link show the same safety words in ${sealed ? 'a sealed room' : 'a room without a secret'}`, async cleanup => {
    const { ana, bo } = await pair(cleanup, { sealed });
    const [hers, his] = await Promise.all([ana.saw('safety_words'), bo.saw('safety_words')]);
    assert.equal(hers.words.length, 4);
    assert.deepEqual(hers.words, his.words);
    assert.deepEqual(one(await ana.snapshot(), 'Bo').safetyWords, hers.words);
  });
}

scenario('who records is shown to everybody, newcomers included, as long as it is so', async cleanup => {
  const { room, ana, bo } = await pair(cleanup);
  bo.say('set_recording', { folder: recordings(cleanup) });
  await ana.shows('that Bo records', snapshot => one(snapshot, 'Bo').sources.recording);
  const chidi = native(cleanup, 'Chidi', room.url, quiet);
  await chidi.shows('that Bo records', snapshot => one(snapshot, 'Bo')?.sources.recording === true);
  bo.say('set_recording', { folder: null });
  await ana.shows('that Bo records no longer', snapshot => !one(snapshot, 'Bo').sources.recording);
});

scenario('the owner mutes, lets in from the lobby, hands the room over and ends the call', async cleanup => {
  const { room, ana, bo } = await pair(cleanup);
  bo.say('set_microphone', { enabled: true });
  ana.say('ask_mute', { user: await userOf(ana, 'Bo') });
  assert.equal((await bo.saw('mute_requested')).name, 'Ana');
  await ana.shows('Bo muted', snapshot => !one(snapshot, 'Bo').sources.audio);

  ana.say('set_lobby', { enabled: true });
  await bo.shows('the lobby', snapshot => snapshot.lobby);
  const chidi = native(cleanup, 'Chidi', room.url, quiet);
  assert.equal((await chidi.saw('no_seat')).code, 'waiting');
  const knock = await ana.saw('knock');
  assert.equal(knock.name, 'Chidi');
  ana.say('admit', { user: knock.user, admitted: true });
  await meets(chidi, 'Bo');
  const dina = native(cleanup, 'Dina', room.url, quiet);
  const { user } = await ana.saw('knock', event => event.name === 'Dina');
  ana.say('admit', { user, admitted: false });
  assert.equal((await dina.ends()).ended.code, 'not_admitted');

  ana.say('offer_ownership', { user: await userOf(ana, 'Bo') });
  await bo.saw('owner_token');
  await ana.saw('owner_changed', event => !event.own);
  const refused = performance.now();
  ana.say('end_call');
  assert.equal((await ana.saw('problem', () => true, { after: refused })).code, 'not_owner');
  bo.say('end_call');
  for (const someone of [ana, bo, chidi]) assert.equal((await someone.ends()).ended.code, 'call_ended');
});

scenario('a new link moves those inside, and the old one opens nothing', async cleanup => {
  const { room, ana, bo } = await pair(cleanup);
  ana.say('new_link');
  const [{ link }, his] = await Promise.all([ana.saw('link_changed'), bo.saw('link_changed')]);
  assert.equal(his.link, link);
  assert.notEqual(link, room.url);
  bo.say('send_chat', { text: 'sealed anew' });
  assert.equal((await ana.saw('chat')).text, 'sealed anew');
  const late = native(cleanup, 'Late', room.url, quiet);
  assert.equal((await late.ends()).ended.code, 'link_incomplete');
  const chidi = native(cleanup, 'Chidi', link, quiet);
  await Promise.all([meets(chidi, 'Ana'), meets(chidi, 'Bo')]);
});

scenario('a password set in mid-call and a lock keep nobody out who was inside when the relay dies', async cleanup => {
  const { relay, ana, bo } = await pair(cleanup);
  ana.say('set_password', { password: 'the kettle whistles' });
  await ana.saw('request_done', event => event.request === 'set_password');
  ana.say('lock', { locked: true });
  await ana.saw('request_done', event => event.request === 'lock');
  await relay.kill();
  const killed = performance.now();
  await restartRelay(cleanup, relay);
  await Promise.all([ana, bo].map(someone => someone.saw('joined', event => event.again, { after: killed })));
  const shown = await meets(ana, 'Bo');
  assert.ok(shown.locked, 'the lock is as it was');
});
