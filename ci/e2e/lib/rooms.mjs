// Rooms made ready by their owner before anybody else comes: with a password, locked, with other settings.

import { linkProof } from './identity.mjs';
import { WireClient } from './wireclient.mjs';

/** What a client adds to `join_room` for a room of `newRoom`. */
export const proofOf = room => (room.secret ? { linkProof: linkProof(room.secret, room.roomId) } : {});

let owners = 0;

/** Joins as the first one, which makes the room and its owner. */
export async function openAsOwner(cleanup, relay, room) {
  // An address block of its own: the limits per block are other tests' subject.
  owners += 1;
  const owner = await WireClient.connect(cleanup, relay, { from: `127.90.${owners % 250}.1` });
  const seat = await owner.join(room.roomId, { name: 'Owner', ...proofOf(room) });
  if (seat.type !== 'room_joined') throw new Error(`the owner could not join: ${JSON.stringify(seat)}`);
  room.ownerToken = seat.ownerToken;
  return owner;
}

/** Makes a room ready and leaves it. */
export async function prepare(cleanup, relay, room, { password, hint, settings } = {}) {
  const owner = await openAsOwner(cleanup, relay, room);
  const wants = message => owner.ask(message).then(answer => {
    if (answer.type !== 'done') throw new Error(`${message.type}: ${JSON.stringify(answer)}`);
  });
  if (password) await wants({ type: 'set_room_password', password, ...(hint ? { hint } : {}) });
  if (settings) await wants({ type: 'update_settings', ...settings });
  owner.leave();
  await owner.closes();
  return room;
}
