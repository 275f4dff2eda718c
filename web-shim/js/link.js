// The room link: reads and writes `https://HOST/room/ROOM_ID#SECRET&owner=TOKEN` (PROTOCOL §1), and the base64url it is made of.
// Never sends, logs or stores the fragment.

import { ROOM_ID } from './room-name.js';

/** @import { FoundLink, RoomLink } from './types.d.ts' */

const SECRET_BYTES = 16;
const TOKEN_BYTES = 32;

/**
 * Reads a room link. `damaged` marks a fragment that is there but is not whole: joining without the secret would quietly
 * give an unsealed room.
 * @param {URL | Location} url
 * @returns {RoomLink | null} null when the path names no room
 */
export function parseLink(url) {
  const path = /^\/room\/([^/]+)\/?$/.exec(url.pathname);
  const roomId = path?.[1]?.toLowerCase() ?? '';
  if (!ROOM_ID.test(roomId)) return null;
  /** @type {RoomLink} */
  const link = { roomId, secret: null, ownerToken: null };
  // `…#` with nothing behind it has lost its secret.
  if (url.href.includes('#') && !readFragment(link, url.hash.slice(1))) link.damaged = true;
  return link;
}

/**
 * Takes `SECRET`, `owner=TOKEN`, or both with `&` between them, into a link.
 * @param {RoomLink | FoundLink} link @param {string} fragment
 * @returns {boolean} false when it is anything else; the link then has neither
 */
export function readFragment(link, fragment) {
  const parts = fragment.split('&').filter(Boolean);
  for (const part of parts) {
    const secret = decode(part);
    if (!link.ownerToken && part.startsWith('owner=') && decode(part.slice(6))?.length === TOKEN_BYTES) link.ownerToken = part.slice(6);
    else if (!link.secret && secret?.length === SECRET_BYTES) link.secret = secret;
    else {
      link.secret = link.ownerToken = null;
      return false;
    }
  }
  return parts.length > 0;
}

/**
 * @param {string} origin for example `https://call.example.org`
 * @param {{ roomId: string, secret: Uint8Array | null, ownerToken?: string | null }} link
 */
export function formatLink(origin, { roomId, secret, ownerToken }) {
  const fragment = [secret && toBase64Url(secret), ownerToken && `owner=${ownerToken}`].filter(Boolean).join('&');
  return `${origin.replace(/\/$/, '')}/room/${roomId}${fragment && `#${fragment}`}`;
}

/** @returns {Uint8Array<ArrayBuffer>} the 16 random bytes of a new link */
export function newSecret() {
  return crypto.getRandomValues(new Uint8Array(SECRET_BYTES));
}

/** @returns {string} an owner's token as the wire has it, for a room that may have to be made */
export function newOwnerToken() {
  return toBase64Url(crypto.getRandomValues(new Uint8Array(TOKEN_BYTES)));
}

/** @param {Uint8Array} bytes */
export function toBase64Url(bytes) {
  let binary = '';
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
}

/**
 * @param {string} text base64url without padding; spellings of the same bytes other than the canonical one are refused
 * @returns {Uint8Array<ArrayBuffer>}
 * @throws {SyntaxError} when it is anything else
 */
export function fromBase64Url(text) {
  const bytes = decode(text);
  if (!bytes) throw new SyntaxError('Not base64url: use only A-Z, a-z, 0-9, - and _, without padding.');
  return bytes;
}

/** @param {string} text */
function decode(text) {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) return null;
  const binary = atob(text.replace(/-/g, '+').replace(/_/g, '/'));
  const bytes = Uint8Array.from(binary, (char) => char.charCodeAt(0));
  return toBase64Url(bytes) === text ? bytes : null;
}
