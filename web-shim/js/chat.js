// The chat's log: bounded, in order of arrival, each message once.
// Never sends: call.js does, with what `compose` makes.

import { toBase64Url } from './link.js';
import { CHAT_CHARS, chatLength, cleanChat } from './text.js';
import { LIMITS } from './wire.js';

/** @import { ChatMessage, ChatPayload } from './types.d.ts' */

/** Of UTF-8 JSON: sealed and encoded, it fits into a data channel message of 16 KiB. */
const MOST_BYTES = 11_000;
/** A sender's clock is believed within a day. */
const CLOCK_MS = 86_400_000;

export class ChatLog {
  /** @type {readonly ChatMessage[]} replaced at each change, so that a snapshot stays as it was */
  messages = [];

  /**
   * What a person typed, in as many messages as it needs.
   * @param {string} text @returns {ChatPayload[]}
   * @throws {RangeError} when it is longer than a message may be: cutting it here would lose its end unnoticed
   */
  compose(text) {
    if (chatLength(text) > CHAT_CHARS) throw new RangeError(`longer than ${CHAT_CHARS} characters`);
    return pieces(cleanChat(text)).map((piece) => ({
      id: toBase64Url(crypto.getRandomValues(new Uint8Array(8))),
      text: piece,
      sentAt: Date.now(),
    }));
  }

  /**
   * @param {ChatPayload} payload @param {{ fromId: string, name: string, own: boolean }} from
   * @returns {boolean} false for a message that is there already, or says nothing
   */
  add({ id, text, sentAt }, { fromId, name, own }) {
    const cleaned = cleanChat(text);
    if (!cleaned || this.messages.some((message) => message.id === id && message.fromId === fromId)) return false;
    const now = Date.now();
    const message = { id, fromId, name, text: cleaned, sentAt: Math.abs(now - sentAt) < CLOCK_MS ? sentAt : now, own };
    this.messages = [...this.messages, message].slice(-LIMITS.chatLog);
    return true;
  }
}

/** @param {string} text @returns {string[]} */
function pieces(text) {
  if (!text) return [];
  if (new TextEncoder().encode(JSON.stringify(text)).length <= MOST_BYTES) return [text];
  const characters = [...text];
  const half = Math.ceil(characters.length / 2);
  return [...pieces(characters.slice(0, half).join('')), ...pieces(characters.slice(half).join(''))];
}
