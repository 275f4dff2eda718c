// Two browsers in a call, in every kind of room.

import assert from 'node:assert/strict';
import { chromium, guest, seesAndHears } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { prepare } from './lib/rooms.mjs';
import { scenario } from './lib/scenario.mjs';
import { until } from './lib/until.mjs';

for (const sealed of [true, false]) {
  for (const password of [null, 'our tea is green']) {
    const kind = `${sealed ? 'a sealed' : 'an unsealed'} room ${password ? 'with' : 'without'} a password`;
    scenario(`two browsers see and hear each other in ${kind}`, async cleanup => {
      const relay = await startRelay(cleanup);
      const room = newRoom(relay, { sealed });
      if (password) await prepare(cleanup, relay, room, { password });
      const [first, second] = await Promise.all([chromium(cleanup), chromium(cleanup)]);
      const ana = await guest(first, 'Ana', room.url, { password });
      const bo = await guest(second, 'Bo', room.url, { password });
      for (const someone of [ana, bo]) {
        const [link] = await seesAndHears(someone, 1);
        console.log(`${kind}: ${someone.name} receives`, JSON.stringify(link.media));
        const tiles = await until('one connected tile', async () => {
          const all = await someone.tiles();
          return all.length === 1 && all[0].link === 'connected' && all;
        });
        assert.match(tiles[0].text, someone === ana ? /Bo/ : /Ana/, 'the tile carries the other one’s name');
        assert.deepEqual(await someone.violations(), []);
        assert.deepEqual(someone.problems, []);
      }
      await ana.picture(`call-two-${sealed ? 'sealed' : 'open'}${password ? '-password' : ''}`);
    });
  }
}
