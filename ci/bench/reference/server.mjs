// The yardstick for `cargo ci bench signaling`: Node, Express 5 and Socket.IO 4.8 doing the same for the same rooms.
//
// WebSocket only, no compression, rooms in memory, join and toggle broadcast to the others in the room. It does less than the relay (no
// passwords, no limits, no sequence numbers, no replay), so the comparison favours it.

import { createServer } from 'node:http';
import express from 'express';
import { Server } from 'socket.io';

const app = express();
app.get('/health', (_, response) => response.json({ status: 'ok' }));
const http = createServer(app);
const io = new Server(http, { transports: ['websocket'], allowUpgrades: false, perMessageDeflate: false, serveClient: false });
const rooms = new Map();

io.on('connection', socket => {
  socket.on('join_room', ({ roomId, userId, displayName, media }, acknowledge) => {
    const members = rooms.get(roomId) ?? new Map();
    rooms.set(roomId, members);
    if (members.size >= 10) return acknowledge({ type: 'room_full', maxParticipants: 10 });
    const participant = { userId, displayName, media, away: false, owner: members.size === 0 };
    const participants = [...members.values()];
    members.set(socket.id, participant);
    socket.data = { roomId, participant };
    socket.join(roomId);
    socket.to(roomId).emit('user_joined', { participant });
    acknowledge({
      type: 'room_joined',
      roomId,
      userId,
      participants,
      roomInfo: { maxParticipants: 10, allowScreenShare: true, passwordEnabled: false, locked: false, sealed: false },
      isOwner: participant.owner,
      iceServers: [],
      iceTtlSeconds: 3600,
      seatHoldSeconds: 30,
    });
  });
  socket.on('toggle_audio', ({ enabled }) => {
    const { roomId, participant } = socket.data;
    participant.media = { ...participant.media, audio: enabled };
    socket.to(roomId).emit('peer_state', { userId: participant.userId, media: participant.media });
  });
  socket.on('disconnect', () => {
    const { roomId, participant } = socket.data ?? {};
    if (!roomId) return;
    const members = rooms.get(roomId);
    members?.delete(socket.id);
    if (members?.size === 0) rooms.delete(roomId);
    socket.to(roomId).emit('user_left', { userId: participant.userId, reason: 'left' });
  });
});

http.listen(0, '127.0.0.1', () => console.error(`listening on http://127.0.0.1:${http.address().port}`));
