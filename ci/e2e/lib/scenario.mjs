// One test: a sentence, what happens in it, and a tidy end. When it fails, what everybody saw at that moment is kept.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { natives } from './native.mjs';
import { skip, whyFailed } from './needs.mjs';
import { artifacts, everybody } from './people.mjs';
import { Cleanup } from './until.mjs';

/** The longest that a story may take, in milliseconds. Node.js 18 has no option for all of them. */
const PATIENCE = 600_000;

/**
 * Declares a test. The last argument, `story(cleanup, t)`, opens what it needs; all of it is put away whatever happens.
 *
 * The option `skip` is the reason that it cannot run on this machine, or false; a program of the system that it does not find is
 * another. Both are failures in continuous integration.
 */
export function scenario(sentence, ...rest) {
  const story = rest.pop();
  const { skip: lacking, ...options } = rest.pop() ?? {};
  test(sentence, { timeout: PATIENCE, ...options }, async t => {
    if (lacking) return skip(t, lacking);
    const cleanup = new Cleanup();
    everybody.clear();
    natives.clear();
    try {
      await story(cleanup, t);
    } catch (error) {
      const why = whyFailed(error);
      if (why) return skip(t, why);
      await keepEvidence(sentence);
      throw error;
    } finally {
      await cleanup.run();
    }
  });
}

async function keepEvidence(sentence) {
  const stem = `failed-${sentence.replace(/[^a-z0-9]+/gi, '-').slice(0, 60)}`;
  for (const person of everybody) {
    const who = person.name.replace(/[^a-z0-9]+/gi, '').slice(0, 12);
    await person.page.screenshot({ path: join(artifacts, `${stem}-${who}.png`) }).catch(() => {});
    const html = await person.page.evaluate(() => document.querySelector('#app, body')?.innerText).catch(() => '');
    const said = [...person.problems, ...person.told].join('\n');
    writeFileSync(join(artifacts, `${stem}-${who}.txt`), `${person.page.url()}\n\n${html}\n\n${said}\n`);
  }
  for (const someone of natives) {
    if (!someone.exit) await someone.snapshot({ timeout: 2_000 }).catch(() => {});
    const lines = someone.events.map(event => JSON.stringify(event)).join('\n');
    writeFileSync(join(artifacts, `${stem}-${someone.name}.txt`), `${lines}\n\n${someone.log}\n`);
  }
}
