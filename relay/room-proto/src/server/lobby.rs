//! The lobby: people without a ticket who wait until somebody inside decides (PROTOCOL.md §3).

use snug_wire::{ErrorCode, RoomId, ServerFrame, ServerMessage, UserId, limits};

use super::{Joining, RoomEntry, RoomServer, SeatRef, State, Timer};
use crate::io::{ConnectionId, Now};
use crate::room::Knock;

impl RoomServer {
    /// Lets a join wait, and tells those who may decide. A join that waits already goes on waiting.
    pub(super) fn knock(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let State::Joining(joining) = &mut connection.state else { return };
        if joining.knocking_since.is_some() {
            return;
        }
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(&joining.join.room_id) else { return };
        let key = joining.join.public_key.clone();
        // The same person with another connection: the one before is gone, or will be.
        let before = room.knocks.iter().find(|knock| knock.key == key).map(|knock| knock.connection);
        if before.is_none() && room.knocks.len() >= limits::LOBBY {
            return self.refuse_join(id, (ErrorCode::LobbyFull, Some(limits::LOBBY_TIMEOUT / 20)));
        }
        joining.knocking_since = Some(now.at);
        let display_name = joining.join.display_name.clone();
        let knock = Knock { connection: id, key, display_name };
        let frame = ServerFrame::new(&knock.message());
        for seat in room.admitters() {
            seat.deliver(&frame, &mut self.outputs);
        }
        let deadline = connection.deadline();
        match room.knocks.iter_mut().find(|before| before.key == knock.key) {
            Some(before) => *before = knock,
            None => room.knocks.push(knock),
        }
        self.set_timer(deadline, Timer::Connection(id));
        self.send(id, &ServerMessage::Waiting {});
        if let Some(before) = before {
            self.refuse_join(before, (ErrorCode::Replaced, None));
        }
    }

    /// A join is over, one way or another.
    pub(super) fn stop_knocking(&mut self, id: ConnectionId, joining: &Joining) {
        if joining.knocking_since.is_none() {
            return;
        }
        let room_id = &joining.join.room_id;
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(room_id) else { return };
        // Another connection of the same person may wait in its place.
        let Some(index) = room.knocks.iter().position(|knock| knock.connection == id) else { return };
        let gone = ServerMessage::KnockGone { user_id: room.knocks.remove(index).key.user_id() };
        let frame = ServerFrame::new(&gone);
        for seat in room.admitters() {
            seat.deliver(&frame, &mut self.outputs);
        }
    }

    /// A room that only somebody who waited kept in memory leaves it.
    pub(super) fn forget_after_knock(&mut self, joining: &Joining) {
        if joining.knocking_since.is_some() {
            self.forget_if_empty(&joining.join.room_id);
        }
    }

    /// `admit`: somebody inside lets a person in, or does not.
    pub(super) fn decide(&mut self, seat: &SeatRef, target: UserId, admitted: bool, now: Now) {
        let Some(room) = self.open_room(&seat.room) else { return };
        if !room.admitters().any(|own| own.user == seat.user) {
            return self.refuse(seat.connection, seat.request_id, (ErrorCode::NotOwner, None));
        }
        let knock = room.knocks.iter().find(|knock| knock.key.user_id() == target);
        let Some(connection) = knock.map(|knock| knock.connection) else {
            return self.refuse(seat.connection, seat.request_id, (ErrorCode::UnknownTarget, None));
        };
        if !admitted {
            return self.refuse_join(connection, (ErrorCode::NotAdmitted, None));
        }
        if let Some(joining) = self.joining_mut(connection) {
            joining.admitted = true;
            self.admit(connection, now);
        }
    }

    /// Tells one participant, or all, of everybody who waits, as far as they may decide. Telling somebody twice does no harm.
    pub(super) fn tell_knocks(&mut self, room_id: &RoomId, to: Option<UserId>) {
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(room_id) else { return };
        let frames: Vec<ServerFrame> =
            room.knocks.iter().map(|knock| ServerFrame::new(&knock.message())).collect();
        for seat in room.admitters().filter(|seat| to.is_none_or(|to| seat.user == to)) {
            for frame in &frames {
                seat.deliver(frame, &mut self.outputs);
            }
        }
    }

    /// The reason to wait may be gone: decides anew on everybody who waits.
    pub(super) fn reconsider_knocks(&mut self, room_id: &RoomId, now: Now) {
        let Some(room) = self.open_room(room_id) else { return };
        let waiting: Vec<ConnectionId> = room.knocks.iter().map(|knock| knock.connection).collect();
        for connection in waiting {
            self.admit(connection, now);
        }
    }
}
