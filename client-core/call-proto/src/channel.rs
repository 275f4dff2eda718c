//! What participants say to each other (PROTOCOL.md §6 and §7): the data channel's messages and the bodies of payloads.
//! Reading answers `None` for what is malformed or over a limit; it never panics.

use serde::{Deserialize, Serialize};
use snug_media_proto::layer::Layer;
use snug_wire::{Media, Payload, limits as wire_limits, object};

use crate::limits;

/// How large a participant shows another one's camera and screen, in device pixels; 0 is not shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names say it")]
pub struct Tile {
    pub width: u16,
    pub height: u16,
    pub screen_width: u16,
    pub screen_height: u16,
}

impl Tile {
    /// The layer that a camera with pictures of this width and height is sent in; `None` when it is
    /// not shown.
    pub fn camera_layer(self, camera: (u32, u32)) -> Option<Layer> {
        Layer::for_tile(camera, (self.width.into(), self.height.into()))
    }
}

/// Most pixels a side may have.
const TILE_SIDE: u16 = 16384;

/// A message on the data channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub(crate) enum ChannelMessage {
    Offer {
        payload: Payload,
    },
    Answer {
        payload: Payload,
    },
    IceCandidate {
        payload: Payload,
    },
    Chat {
        payload: Payload,
    },
    MediaState {
        #[serde(deserialize_with = "object::deserialize")]
        media: Media,
    },
    Tile(Tile),
    /// The offerer's nonce of the safety words.
    Safety {
        nonce: String,
    },
    /// The secret of the room's new link.
    NewLink {
        payload: Payload,
    },
    Bye {},
}

impl ChannelMessage {
    pub(crate) fn encode(&self) -> String {
        serde_json::to_string(self).expect("messages have string keys and no failing serializers")
    }

    pub(crate) fn decode(text: &str) -> Option<Self> {
        if text.len() > limits::CHANNEL_DESCRIPTION {
            return None;
        }
        let message: Self = object::from_str(text).ok()?;
        let fits = match &message {
            Self::Offer { payload } | Self::Answer { payload } => {
                payload.len() <= wire_limits::DESCRIPTION_PAYLOAD
            }
            Self::IceCandidate { payload } => payload.len() <= wire_limits::CANDIDATE_PAYLOAD,
            Self::Tile(tile) => [tile.width, tile.height, tile.screen_width, tile.screen_height]
                .iter()
                .all(|side| *side <= TILE_SIDE),
            Self::Chat { .. }
            | Self::MediaState { .. }
            | Self::Safety { .. }
            | Self::NewLink { .. }
            | Self::Bye {} => text.len() <= limits::CHANNEL_MESSAGE,
        };
        fits.then_some(message)
    }
}

/// The body of an offer or answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Description {
    pub(crate) sdp: String,
    pub(crate) session: String,
    pub(crate) restart: bool,
    /// In an offer of a new session: what the offerer binds itself to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commitment: Option<String>,
    /// In the answer to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) safety_nonce: Option<String>,
}

/// The body of a new link.
#[derive(Serialize, Deserialize)]
pub(crate) struct NewLinkBody {
    pub(crate) secret: String,
}

/// The body of a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CandidateBody {
    pub(crate) candidate: String,
    pub(crate) sdp_mid: Option<String>,
    #[serde(rename = "sdpMLineIndex")]
    pub(crate) sdp_mline_index: Option<u16>,
    pub(crate) session: String,
}

/// The body of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameBody {
    pub(crate) name: String,
}

/// The body of a chat message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChatBody {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) sent_at: u64,
}

/// A body as the JSON text that is sealed.
pub(crate) fn body(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("bodies have string keys and no failing serializers")
}

pub(crate) fn read_description(text: &str) -> Option<Description> {
    let description: Description = object::from_str(text).ok()?;
    let fits = |text: &Option<String>| text.as_ref().is_none_or(|text| text.len() <= limits::SAFETY);
    (description.sdp.len() <= limits::SDP
        && is_session(&description.session)
        && fits(&description.commitment)
        && fits(&description.safety_nonce))
    .then_some(description)
}

pub(crate) fn read_candidate(text: &str) -> Option<CandidateBody> {
    let body: CandidateBody = object::from_str(text).ok()?;
    let fits = body.candidate.len() <= limits::CANDIDATE
        && body.sdp_mid.as_ref().is_none_or(|mid| mid.len() <= 16)
        && body.sdp_mline_index.is_none_or(|index| index <= 16)
        && is_session(&body.session);
    fits.then_some(body)
}

pub(crate) fn read_chat(text: &str) -> Option<ChatBody> {
    let body: ChatBody = object::from_str(text).ok()?;
    let id_fits = (1..=64).contains(&body.id.len()) && body.id.bytes().all(is_word);
    (id_fits && body.text.len() <= limits::CHANNEL_MESSAGE).then_some(body)
}

/// Eight bytes as base64url.
fn is_session(text: &str) -> bool {
    text.len() == 11 && text.bytes().all(is_word)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{ChannelMessage, NameBody, read_candidate, read_chat, read_description};

    #[test]
    fn what_the_golden_file_calls_malformed_is_refused() {
        let golden: Value =
            serde_json::from_str(include_str!("../../../relay/wire/golden/malformed.json")).expect("JSON");
        let accepts = |kind: &str, text: &str| match kind {
            "channel" => ChannelMessage::decode(text).is_some(),
            "name" => snug_wire::object::from_str::<NameBody>(text).is_ok(),
            "description" => read_description(text).is_some(),
            "candidate" => read_candidate(text).is_some(),
            _ => read_chat(text).is_some(),
        };
        for kind in ["channel", "name", "description", "candidate", "chat"] {
            let cases = golden[kind].as_array().expect("a list");
            assert!(cases.len() >= 3, "{kind}");
            for case in cases {
                let text = case.as_str().expect("a text");
                assert!(!accepts(kind, text), "{kind}: {text}");
            }
        }
    }
}
