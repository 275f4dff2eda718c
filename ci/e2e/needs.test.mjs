// A test that lacks something of the machine: counted as skipped at a desk, failed in continuous integration.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';

const library = JSON.stringify(new URL('./lib/scenario.mjs', import.meta.url).href);

/** What lacks something: a right that is asked for beforehand, and a program that turns out to be missing. */
const STORIES = `
import { execFileSync } from 'node:child_process';
import { scenario } from ${library};
scenario('needs a right', { skip: 'needs root' }, async () => {});
scenario('needs a program', async () => void execFileSync('no-such-program'));
scenario('needs nothing', { skip: false }, async () => {});
scenario('is wrong', async () => { throw new Error('wrong'); });
`;

function counts(t, ci) {
  const folder = mkdtempSync(join(tmpdir(), 'snug-needs-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'stories.mjs'), STORIES);
  const env = { ...process.env, CI: ci };
  // Or this runner would take the other's results for its own.
  delete env.NODE_TEST_CONTEXT;
  const ran = spawnSync(process.execPath, ['--test', '--test-reporter=spec', join(folder, 'stories.mjs')], { env, encoding: 'utf8' });
  const number = word => Number(ran.stdout.match(new RegExp(`^ℹ ${word} (\\d+)$`, 'm'))?.[1]);
  return { passed: number('pass'), failed: number('fail'), skipped: number('skipped') };
}

test('what a machine lacks is counted as skipped', t => {
  assert.deepEqual(counts(t, ''), { passed: 1, failed: 1, skipped: 2 });
});

test('what a machine lacks is a failure in continuous integration', t => {
  assert.deepEqual(counts(t, 'true'), { passed: 1, failed: 3, skipped: 0 });
});
