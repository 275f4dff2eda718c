// Waiting for a fact instead of sleeping for a while.

const pause = ms => new Promise(done => setTimeout(done, ms));

/**
 * Polls `probe` until it returns something truthy, and returns that. The last thing seen is part of the error, so that a
 * failing test says what the state was and not only that time ran out.
 */
export async function until(what, probe, { timeout = 30_000, every = 100 } = {}) {
  const deadline = Date.now() + timeout;
  let seen;
  for (;;) {
    try {
      seen = await probe();
      if (seen) return seen;
    } catch (error) {
      seen = error;
    }
    if (Date.now() > deadline) {
      const last = seen instanceof Error ? seen.message : JSON.stringify(seen);
      throw new Error(`waited ${timeout} ms for: ${what} (last seen: ${last})`);
    }
    await pause(every);
  }
}

/** Lets real time pass, for tests about what does *not* happen during it. */
export const during = pause;

/** Collects what must be put away at the end of a test, whatever happened in it; the last thing opened goes first. */
export class Cleanup {
  #steps = [];

  add(step) {
    this.#steps.push(step);
  }

  async run() {
    for (const step of this.#steps.splice(0).reverse()) {
      try {
        await step();
      } catch (error) {
        console.error(`clean-up: ${error.message}`);
      }
    }
  }
}
