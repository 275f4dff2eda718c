//! Turns the call's own terms into those of the shell.

use std::time::Instant;

use snug_audio::{AudioSnapshot, RemoteId, SILENCE_DB};
use snug_call_proto::{
    self as call, CallEvent, CallSnapshot, EndCode, KnockSnapshot, LinkId, NoSeatReason, ParticipantSnapshot,
    RequestKind, Safety, SignalingState, TILE_KEPT,
};
use snug_media_proto::section::Section;
use snug_rtc::{CandidateKind, RelayProtocol};
use snug_wire::link::RoomSecret;
use snug_wire::{ErrorCode, LeaveReason, UserId};

use crate::api::{Event, Knock, LinkState, Participant, Quality, Snapshot};
use crate::fanout::Fanout;
use crate::pictures::Pictures;
use crate::safety_words::words;

pub(crate) fn snapshot(
    call: &CallSnapshot,
    audio: &AudioSnapshot,
    pictures: &Pictures,
    fanout: &Fanout,
    link_of: &dyn Fn(UserId) -> Option<LinkId>,
) -> Snapshot {
    let now = Instant::now();
    let participant = |of: &ParticipantSnapshot| {
        let link = link_of(of.user);
        let newest = pictures.newest(of.user, Section::Camera);
        let heard = link.and_then(|link| audio.remotes.get(&RemoteId(link.0)));
        Participant {
            user: of.user.to_string(),
            verified: of.verified,
            new_key: of.new_key,
            name: of.name.clone(),
            sources: of.media.into(),
            away: of.away,
            owner: of.owner,
            link: link_state(of.link, now),
            safety_words: match of.safety {
                Safety::Words(places) => Some(words(places)),
                Safety::Unknown | Safety::Mismatch => None,
            },
            safety_warning: of.safety == Safety::Mismatch,
            level_db: heard.map_or(SILENCE_DB, |heard| heard.level_db.round()),
            speaking: heard.is_some_and(|heard| heard.speaking),
            pictures: newest.as_ref().map_or(0, |(_, number)| *number),
            picture_size: newest.map_or((0, 0), |(frame, _)| (frame.width(), frame.height())),
            quality: link.and_then(|link| quality(fanout, link)).unwrap_or_default(),
        }
    };
    Snapshot {
        online: call.signaling == SignalingState::Online,
        user: call.self_id.to_string(),
        no_seat: call.no_seat.as_ref().map(|no_seat| no_seat.message.clone()),
        is_owner: call.is_owner,
        locked: call.room.as_ref().is_some_and(|room| room.locked),
        lobby: call.room.as_ref().is_some_and(|room| room.lobby),
        removed: call.room.as_ref().map_or(0, |room| room.removed),
        sources: call.media.into(),
        level_db: audio.capture.as_ref().map_or(SILENCE_DB, |capture| capture.level_db.round()),
        camera: fanout.encoded(),
        participants: call.participants.iter().map(participant).collect(),
        knocks: call.knocks.iter().map(knock).collect(),
    }
}

fn knock(of: &KnockSnapshot) -> Knock {
    Knock { user: of.user.to_string(), name: of.name.clone() }
}

fn quality(fanout: &Fanout, link: LinkId) -> Option<Quality> {
    let (estimate, stats) = fanout.quality(link)?;
    let sum = |count: fn(&snug_rtc::SectionStats) -> u64| stats.sections.iter().map(count).sum();
    Some(Quality {
        rtt_ms: estimate.rtt.as_millis() as u64,
        estimate_bps: estimate.bitrate_bps,
        loss: estimate.loss,
        packets_received: sum(|section| section.packets_received),
        bytes_received: sum(|section| section.bytes_received),
        bytes_sent: sum(|section| section.bytes_sent),
        recovered: sum(|section| section.recovered),
        duplicates: sum(|section| section.duplicates),
        relay_protocol: stats.path.and_then(|path| path.relay).map(relay_protocol),
        relayed: stats.path.is_some_and(|path| [path.local, path.remote].contains(&CandidateKind::Relay)),
    })
}

fn relay_protocol(protocol: RelayProtocol) -> &'static str {
    match protocol {
        RelayProtocol::Udp => "udp",
        RelayProtocol::Tcp => "tcp",
        RelayProtocol::Tls => "tls",
    }
}

fn link_state(state: call::LinkState, now: Instant) -> LinkState {
    match state {
        call::LinkState::Connecting => LinkState::Connecting,
        call::LinkState::Connected => LinkState::Connected,
        call::LinkState::Interrupted { since } if since + TILE_KEPT <= now => LinkState::Lost,
        call::LinkState::Interrupted { .. } => LinkState::Interrupted,
        call::LinkState::Refused(_) => LinkState::Refused,
    }
}

/// What a shell is told of it; `None` for what only the engine needs to know.
/// `link_with` makes the room's link with a secret.
pub(crate) fn event(
    event: CallEvent,
    call: &CallSnapshot,
    link_with: &dyn Fn(&RoomSecret) -> String,
) -> Option<Event> {
    let name_of = |user: UserId| {
        let known = call.participants.iter().find(|participant| participant.user == user);
        known.map_or_else(String::new, |participant| participant.name.clone())
    };
    let link = |user: UserId, state| Some(Event::Link { user: user.to_string(), state });
    match event {
        CallEvent::Joined { again } => Some(Event::Joined { user: call.self_id.to_string(), again }),
        CallEvent::Reconnecting => Some(Event::Reconnecting),
        CallEvent::Resumed => Some(Event::Resumed),
        CallEvent::Draining => Some(Event::Draining),
        CallEvent::PasswordNeeded { hint, wrong } => Some(Event::PasswordNeeded { hint, wrong }),
        CallEvent::NoSeat(no_seat) => {
            let code = match no_seat.reason {
                NoSeatReason::RoomFull => "room_full".to_owned(),
                NoSeatReason::Lobby => "waiting".to_owned(),
                NoSeatReason::Refused(code) => word(code),
            };
            Some(Event::NoSeat { code, message: no_seat.message, waits: no_seat.waits })
        }
        CallEvent::ParticipantJoined { user, former } => Some(Event::ParticipantJoined {
            user: user.to_string(),
            name: name_of(user),
            new_key: former.is_some(),
        }),
        CallEvent::ParticipantReturned(user) => {
            Some(Event::ParticipantReturned { user: user.to_string(), name: name_of(user) })
        }
        CallEvent::ParticipantLeft { user, reason } => Some(Event::ParticipantLeft {
            user: user.to_string(),
            kicked: reason == LeaveReason::Kicked,
            replaced: reason == LeaveReason::Replaced,
        }),
        CallEvent::ParticipantConnected(user) => link(user, LinkState::Connected),
        CallEvent::ParticipantInterrupted(user) => link(user, LinkState::Interrupted),
        CallEvent::ParticipantRefused { user, .. } => link(user, LinkState::Refused),
        CallEvent::MediaChanged { user, media } => {
            Some(Event::MediaChanged { user: user.to_string(), media: media.into() })
        }
        CallEvent::Chat(message) => {
            Some(Event::Chat { user: message.from.to_string(), name: message.name, text: message.text })
        }
        CallEvent::MuteRequested(user) => {
            Some(Event::MuteRequested { user: user.to_string(), name: name_of(user) })
        }
        CallEvent::Knock(of) => {
            let Knock { user, name } = knock(&of);
            Some(Event::Knock { user, name })
        }
        CallEvent::KnockGone(user) => Some(Event::KnockGone { user: user.to_string() }),
        CallEvent::OwnerChanged(user) => {
            Some(Event::OwnerChanged { user: user.to_string(), own: user == call.self_id })
        }
        CallEvent::LinkChanged(secret) => Some(Event::LinkChanged { link: link_with(&secret) }),
        CallEvent::Safety { user, safety } => match safety {
            Safety::Words(places) => {
                Some(Event::SafetyWords { user: user.to_string(), name: name_of(user), words: words(places) })
            }
            Safety::Mismatch => Some(Event::SafetyWarning { user: user.to_string(), name: name_of(user) }),
            Safety::Unknown => None,
        },
        CallEvent::RequestDone(request) => Some(Event::RequestDone { request: request_word(request) }),
        CallEvent::OwnerTokenRefused => Some(Event::Problem {
            code: "owner_token_refused".to_owned(),
            message: "the owner's token of this link is not the room's: you are in the room as a guest; ask the owner for the right link"
                .to_owned(),
        }),
        CallEvent::OwnerToken(token) => Some(Event::OwnerToken { token: token.to_string() }),
        CallEvent::RequestFailed { code, message, .. } => {
            let code = code.map_or_else(|| "no_answer".to_owned(), word);
            Some(Event::Problem { code, message })
        }
        CallEvent::Ended { code, message } => Some(Event::Ended { code: end_code(code), message }),
        CallEvent::ScreenShareForbidden => Some(Event::Problem {
            code: "screen_share_disabled".to_owned(),
            message: "the owner does not allow sharing screens here: yours is no longer shared; ask the owner to allow it"
                .to_owned(),
        }),
        // The session keeps who we are; the snapshot says who is away; statistics are asked for by nobody here.
        CallEvent::KeepIdentity(_)
        | CallEvent::ForgetIdentity
        | CallEvent::ParticipantAway(_)
        | CallEvent::ParticipantBack(_)
        | CallEvent::Stats(_) => None,
    }
}

fn request_word(request: RequestKind) -> &'static str {
    match request {
        RequestKind::SetPassword => "set_password",
        RequestKind::ClearPassword => "clear_password",
        RequestKind::Lock => "lock",
        RequestKind::Kick => "kick",
        RequestKind::UpdateSettings => "update_settings",
        RequestKind::RotateOwnerToken => "rotate_owner_token",
        RequestKind::GetStats => "get_stats",
        RequestKind::Unban => "unban",
        RequestKind::AskMute => "ask_mute",
        RequestKind::Admit => "admit",
        RequestKind::OfferOwnership => "offer_ownership",
        RequestKind::TakeOwnership => "take_ownership",
        RequestKind::NewLink => "new_link",
        RequestKind::EndCall => "end_call",
    }
}

fn end_code(code: EndCode) -> String {
    match code {
        EndCode::Left => "left".to_owned(),
        EndCode::Kicked => "kicked".to_owned(),
        EndCode::Replaced => "replaced".to_owned(),
        EndCode::CallEnded => "call_ended".to_owned(),
        EndCode::LinkChanged => "link_changed".to_owned(),
        EndCode::RoomFull => "room_full".to_owned(),
        EndCode::Unreachable => "unreachable".to_owned(),
        EndCode::Untrusted => "untrusted".to_owned(),
        EndCode::TimedOut => "timed_out".to_owned(),
        EndCode::Refused(code) => word(code),
    }
}

/// The relay's code as a word for scripts.
fn word(code: ErrorCode) -> String {
    serde_json::to_value(code)
        .ok()
        .and_then(|code| code.as_str().map(str::to_ascii_lowercase))
        .unwrap_or_else(|| "refused".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_tile_of_a_link_that_fell_silent_is_kept_for_five_seconds_after_its_last_packet() {
        let since = Instant::now();
        let shown = |millis| {
            link_state(call::LinkState::Interrupted { since }, since + Duration::from_millis(millis))
        };
        assert_eq!([2_000, 3_000, 4_999].map(shown), [LinkState::Interrupted; 3]);
        assert_eq!([5_000, 60_000].map(shown), [LinkState::Lost; 2]);
    }
}
