// Who is in the room, as far as we know: what the relay lists, and what links still carry while it is away.
// Never closes a link; it keeps names and states.

import { SealError } from './seal.js';
import { cleanName } from './text.js';
import { readMedia, readName } from './wire.js';

/** @import { Media, Participant, Payload, SealProblem } from './types.d.ts' */
/** @import { Sealer } from './seal.js' */

/**
 * @typedef {object} Member
 * @property {string} userId
 * @property {string} name empty until it is opened, and when it cannot be
 * @property {Media} media
 * @property {boolean} away the relay holds its seat
 * @property {boolean} owner
 * @property {boolean} verified what it says is checked against a key
 * @property {boolean} newKey the relay says that it was here before, with another key
 * @property {string[]} capabilities what its client can do beyond what all can
 * @property {boolean} listed the relay named it since we last joined
 */

export class Roster {
  /** In the order of joining. @type {Map<string, Member>} */
  members = new Map();
  #sealer;

  /** @param {Sealer} sealer */
  constructor(sealer) {
    this.#sealer = sealer;
  }

  /** A relay that forgot us may have forgotten others, who return by themselves. */
  unlistAll() {
    for (const member of this.members.values()) member.listed = false;
  }

  /** @param {Participant} participant @returns {Member} */
  put({ userId, media, away, owner, formerId, capabilities = [] }) {
    const member = this.members.get(userId)
      ?? { userId, name: '', media: readMedia({}), away, owner, verified: false, newKey: false, capabilities, listed: true };
    Object.assign(member, { media: readMedia(media), away, owner, newKey: formerId !== undefined, capabilities, listed: true });
    this.members.set(userId, member);
    return member;
  }

  /**
   * @param {Member} member @param {{ publicKey?: string, displayName: Payload }} participant
   * @returns {Promise<SealProblem | null>} why the name was refused
   */
  async openName(member, { publicKey, displayName }) {
    try {
      if (publicKey || !member.verified) member.verified = await this.#sealer.introduce(member.userId, publicKey);
      const name = readName(await this.#sealer.open('name', member.userId, '*', displayName));
      if (name !== null) member.name = cleanName(name);
      return null;
    } catch (error) {
      return error instanceof SealError ? error.problem : 'tampered';
    }
  }

  /**
   * @param {string} userId @param {Media} media
   * @returns {('muted' | 'screen' | 'hand')[]} what the others should be told of the change
   */
  setMedia(userId, media) {
    const member = this.members.get(userId);
    if (!member) return [];
    const before = member.media;
    member.media = media;
    /** @type {('muted' | 'screen' | 'hand')[]} */
    const told = [];
    if (before.audio && !media.audio) told.push('muted');
    if (!before.screen && media.screen) told.push('screen');
    if (!before.hand && media.hand) told.push('hand');
    return told;
  }
}
