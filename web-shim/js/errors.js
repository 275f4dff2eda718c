// Why a join, an owner's request or the call itself ended: a code for the view's string table and a plain English sentence.
// Never shown as it is when the view knows the code in the person's language.

/** @import { CallEnd, ServerMessage } from './types.d.ts' */

/** @type {Record<string, string>} */
const MESSAGES = {
  ROOM_FULL: 'The room is full. Wait until somebody leaves.',
  AUTH_REQUIRED: 'This room has a password. Enter it to join.',
  LINK_INCOMPLETE: 'This link lacks its last part, after the #. Ask the person who invited you for the whole link.',
  NETWORK: 'The relay cannot be reached. Check the network and try again.',
  RELAY_FULL: 'The relay has as many connections as it may. Try again in a moment.',
  TIMEOUT: 'The relay did not answer in time. Try again.',
  INSECURE: 'Browsers allow calls only over https or on localhost. Open the room by its https address.',
  SCREEN_SHARE_DISABLED: 'The owner of the room switched screen sharing off.',
  VERSION_UNSUPPORTED: 'The page and the relay speak different versions. Reload the page.',
  KICKED: 'The owner removed you from the room.',
  REPLACED: 'This call was taken over by another window.',
  LEFT: 'You left the call.',
};

/** @implements {CallEnd} */
export class CallError extends Error {
  /**
   * @param {string} code
   * @param {string} [message] the relay's own sentence, when it sent one
   * @param {{ retryAfterMs?: number | undefined, maxParticipants?: number | undefined, hint?: string | undefined }} [details]
   */
  constructor(code, message, details = {}) {
    super(message ?? MESSAGES[code] ?? 'Something went wrong. Try again.');
    this.name = 'CallError';
    this.code = code;
    this.retryAfterMs = details.retryAfterMs;
    this.maxParticipants = details.maxParticipants;
    this.hint = details.hint;
  }
}

/**
 * The refusal in an answer of the relay.
 * @param {Extract<ServerMessage, { type: 'error' | 'auth_required' | 'room_full' }>} message
 */
export function refusal(message) {
  if (message.type === 'room_full') return new CallError('ROOM_FULL', undefined, message);
  if (message.type === 'auth_required') return new CallError('AUTH_REQUIRED', undefined, message);
  return new CallError(message.code, message.message, message);
}
