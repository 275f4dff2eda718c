// Why a join, an owner's request or the call itself ended: the code that the view has a sentence for.
// Never holds a sentence of its own: `message` is the relay's, for codes that the view does not know, or the code.

/** @import { CallEnd, ServerMessage } from './types.d.ts' */

/** @implements {CallEnd} */
export class CallError extends Error {
  /**
   * @param {string} code
   * @param {string} [message] the relay's own sentence, when it sent one
   * @param {{ retryAfterMs?: number | undefined, maxParticipants?: number | undefined, hint?: string | undefined }} [details]
   */
  constructor(code, message, details = {}) {
    super(message ?? code);
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
