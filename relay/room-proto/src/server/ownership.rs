//! What the owner may do with the room and the people in it, beyond its settings (PROTOCOL.md §3).

use std::time::Instant;

use snug_wire::{
    CloseCode, ErrorCode, LinkProof, Payload, ServerFrame, ServerMessage, Token, UserId, limits,
};

use super::{RoomEntry, RoomServer, SeatRef};
use crate::io::{ConnectionId, Now, Output};
use crate::room::Change;

impl RoomServer {
    /// `set_name`, which everybody may use: a name that was sealed under a new link.
    pub(super) fn set_name(&mut self, seat: &SeatRef, display_name: Payload) {
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(&seat.room) else { return };
        let Some(own) = room.seat_mut(seat.user) else { return };
        own.display_name = display_name.clone();
        let message = ServerMessage::PeerName { user_id: seat.user, display_name };
        room.broadcast(Some(seat.user), &message, &mut self.outputs);
    }

    /// Sends something to one other participant; whether there is such a participant.
    pub(super) fn tell_participant(
        &mut self,
        seat: &SeatRef,
        target: UserId,
        message: impl FnOnce(UserId) -> ServerMessage,
    ) -> bool {
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(&seat.room) else { return false };
        let Some(other) = room.seat_mut(target).filter(|_| target != seat.user) else {
            self.refuse(seat.connection, seat.request_id, (ErrorCode::UnknownTarget, None));
            return false;
        };
        other.deliver(&ServerFrame::new(&message(seat.user)), &mut self.outputs);
        true
    }

    /// `unban`: those who were removed may join as everybody else.
    pub(super) fn unban(&mut self, seat: &SeatRef, now: Now) {
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(&seat.room) else { return };
        if let Some(session) = &mut room.record.session {
            session.kicked.clear();
        }
        room.broadcast_info(&mut self.outputs);
        self.save_soon(&seat.room);
        self.send(seat.connection, &ServerMessage::Done { request_id: seat.request_id });
        self.reconsider_knocks(&seat.room, now);
    }

    /// `offer_ownership`. The owner stays one until the other has a token of its own on disk: a room must not lose its owner
    /// to a connection that breaks in between.
    pub(super) fn offer_ownership(&mut self, seat: &SeatRef, target: UserId, now: Now) {
        if self.tell_participant(seat, target, |from_id| ServerMessage::OwnershipOffered { from_id })
            && let Some(room) = self.open_room(&seat.room)
        {
            room.ownership_offer = Some((target, now.at + limits::OWNERSHIP_OFFER));
        }
    }

    /// `take_ownership`.
    pub(super) fn take_ownership(&mut self, seat: &SeatRef, owner_token: Token, now: Now) {
        let Some(room) = self.open_room(&seat.room) else { return };
        let is_for_us = |(user, until): &mut (UserId, Instant)| *user == seat.user && now.at <= *until;
        if room.ownership_offer.take_if(is_for_us).is_none() {
            return self.refuse(seat.connection, seat.request_id, (ErrorCode::NotOwner, None));
        }
        self.change(seat, Change::Ownership(owner_token));
    }

    /// `new_link`: the old link opens nothing from here on.
    pub(super) fn new_link(&mut self, seat: &SeatRef, link_proof: LinkProof) {
        let Some(room) = self.open_room(&seat.room) else { return };
        if room.record.link_proof.is_none() {
            // A room without a secret cannot get one: those inside would send plain payloads to who takes none.
            return self.refuse(seat.connection, seat.request_id, (ErrorCode::BadMessage, None));
        }
        self.change(seat, Change::NewLink(link_proof));
    }

    /// `end_call`: everybody is put out, and the session is over.
    pub(super) fn end_call(&mut self, seat: &SeatRef, now: Now) {
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(&seat.room) else { return };
        room.broadcast(None, &ServerMessage::CallEnded {}, &mut self.outputs);
        let waiting: Vec<ConnectionId> = room.knocks.drain(..).map(|knock| knock.connection).collect();
        let seats = std::mem::take(&mut room.seats);
        self.seats -= seats.len();
        for gone in seats {
            self.outputs.push_back(Output::Unseated { room: seat.room.clone(), user: gone.user });
            if let Some(connection) = gone.connection {
                self.forget_connection(connection);
                self.outputs.push_back(Output::Close { connection, code: CloseCode::Ended });
            }
        }
        self.end_session(&seat.room, now);
        for connection in waiting {
            self.refuse_join(connection, (ErrorCode::NotAdmitted, None));
        }
    }
}
