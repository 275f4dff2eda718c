//! Seats whose connection is lost: taken back, held, given up; and the credentials that end meanwhile (PROTOCOL.md §2, §4).

use snug_wire::{
    CloseCode, ErrorCode, IceServer, LeaveReason, RoomId, ServerFrame, ServerMessage, Token, UserId, limits,
};

use super::{RoomEntry, RoomServer, State, Timer};
use crate::io::{ConnectionId, Now, Output};

impl RoomServer {
    pub(super) fn resume(
        &mut self,
        id: ConnectionId,
        request_id: Option<u32>,
        (room_id, user): (RoomId, UserId),
        token: &Token,
        last_seq: u64,
        now: Now,
    ) {
        let new_token = self.new_token();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let block = connection.block;
        // Not counted as a join: nobody guesses 256 bits, and after an outage a whole office comes back at once.
        let seat = match self.rooms.get_mut(&room_id) {
            Some(RoomEntry::Open(room)) => room.seat_mut(user),
            _ => None,
        };
        let Some(seat) = seat.filter(|seat| seat.accepts(token)) else {
            let refusal = match self.quotas.failed_resume(block, now.at) {
                Ok(()) => (ErrorCode::ResumeFailed, None),
                Err(wait) => (ErrorCode::RateLimited, Some(wait)),
            };
            return self.refuse(id, request_id, refusal);
        };
        if let Err(wait) = seat.count_resume(now.at).and_then(|()| self.quotas.resume(block, now.at)) {
            return self.refuse(id, request_id, (ErrorCode::RateLimited, Some(wait)));
        }
        connection.state = State::Seated { room: room_id.clone(), user };
        let replaced = seat.connection.replace(id);
        let was_away = seat.held_until.take().is_some();
        seat.going_away = false;
        // The one that was shown: answers may be lost more than once.
        seat.previous_token = Some(token.clone());
        seat.resume_token = new_token.clone();
        // Who has nothing of this seat has not even its `room_joined`.
        let missed = seat.missed_since(last_seq).filter(|_| last_seq > 0);
        if missed.is_some() {
            seat.acknowledge(last_seq, now.at);
        }
        if let Some(old) = replaced {
            self.send(old, &ServerMessage::error(ErrorCode::Replaced, None));
            self.forget_connection(old);
            self.outputs.push_back(Output::Close { connection: old, code: CloseCode::Replaced });
        }
        match missed {
            Some(frames) => {
                let resumed = ServerMessage::Resumed { resume_token: new_token, replayed: frames.len() };
                self.send(id, &resumed);
                self.outputs.extend(frames.into_iter().map(|frame| Output::Send { connection: id, frame }));
                self.seat_timer(room_id.clone(), user, now);
            }
            None => self.attach(&room_id, user, id, None, now),
        }
        if was_away && let Some(RoomEntry::Open(room)) = self.rooms.get_mut(&room_id) {
            room.broadcast(Some(user), &ServerMessage::UserBack { user_id: user }, &mut self.outputs);
        }
    }

    pub(super) fn seat_lost_connection(
        &mut self,
        room_id: &RoomId,
        user: UserId,
        going_away: bool,
        now: Now,
    ) {
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(room_id) else { return };
        let Some(seat) = room.seat_mut(user) else { return };
        let hold = if going_away { limits::GOING_AWAY_HOLD } else { limits::SEAT_HOLD };
        let until = now.at + hold;
        seat.going_away = going_away;
        seat.connection = None;
        seat.held_until = Some(until);
        if !self.draining {
            room.broadcast(Some(user), &ServerMessage::UserAway { user_id: user }, &mut self.outputs);
        }
        self.set_timer(until, Timer::Seat(room_id.clone(), user));
    }

    /// Gives up a seat that was held long enough, and renews credentials that are due.
    pub(super) fn seat_timer(&mut self, room_id: RoomId, user: UserId, now: Now) {
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(&room_id) else { return };
        let Some(seat) = room.seat_mut(user) else { return };
        if seat.held_until.is_some_and(|until| until <= now.at) {
            return self.remove_seat(&room_id, user, LeaveReason::Timeout, now);
        }
        if seat.connection.is_some() && seat.credentials_due.is_some_and(|due| due <= now.at) {
            return self.renew_credentials(&room_id, user, now);
        }
        // It may have been woken too early for what comes next.
        let due = seat.credentials_due.filter(|_| seat.connection.is_some());
        if let Some(next) = [seat.held_until, due].into_iter().flatten().min() {
            self.set_timer(next, Timer::Seat(room_id, user));
        }
    }

    /// Credentials end by the wall clock. After it was set, those that are out end too early for new allocations, or
    /// too late; everybody inside gets others.
    pub(super) fn compare_clocks(&mut self, now: Now) {
        if self.wall_clock.was_set(now) {
            self.ice_servers_changed(now);
        }
    }

    /// While somebody is inside, the clocks are compared even if nothing happens.
    pub(super) fn plan_comparison(&mut self, now: Now) {
        if self.seats > 0
            && let Some(at) = self.wall_clock.plan(now)
        {
            self.set_timer(at, Timer::WallClock);
        }
    }

    /// Who is away is told when it is back.
    pub(super) fn ice_servers_changed(&mut self, now: Now) {
        let mut seats: Vec<(RoomId, UserId)> =
            self.seats().map(|(room, user)| (room.clone(), user)).collect();
        seats.sort();
        for (room_id, user) in seats {
            if let Some(seat) = self.open_room(&room_id).and_then(|room| room.seat_mut(user)) {
                seat.credentials_due = Some(now.at);
                self.seat_timer(room_id, user, now);
            }
        }
    }

    pub(super) fn renew_credentials(&mut self, room_id: &RoomId, user: UserId, now: Now) {
        let due = now.at + self.ice.ttl() * 3 / 4;
        if let Some(seat) = self.open_room(room_id).and_then(|room| room.seat_mut(user)) {
            seat.credentials_due = Some(due);
            self.set_timer(due, Timer::Seat(room_id.clone(), user));
            self.send_credentials(room_id, user, now);
        }
    }

    pub(super) fn send_credentials(&mut self, room_id: &RoomId, user: UserId, now: Now) {
        let seat = self.open_room(room_id).and_then(|room| room.seat(user));
        let Some(connection) = seat.and_then(|seat| seat.connection) else { return };
        let ice_servers = self.ice_servers(room_id, user, connection, now);
        let ttl = self.ice.ttl();
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(room_id) else { return };
        let Some(seat) = room.seat_mut(user) else { return };
        let message = ServerMessage::TurnCredentials { ice_servers, ice_ttl_seconds: ttl.as_secs() };
        seat.deliver(&ServerFrame::new(&message), &mut self.outputs);
    }

    /// The servers as `connection` can reach them.
    pub(super) fn ice_servers(
        &self,
        room: &RoomId,
        user: UserId,
        connection: ConnectionId,
        now: Now,
    ) -> Vec<IceServer> {
        let host = self.connections.get(&connection).and_then(|connection| connection.host.as_deref());
        self.ice.ice_servers(room, user, host, now.unix)
    }
}
