//! What is done to packets between the encryption and the engine, each step without clock or socket:
//!
//! ```text
//! wire ─ 500 wire_tap ─ 3000 departure ─ 6000 feedback ─ 6500 rtx_unwrap ─ 7000 nack ─ 10000/11000 reports
//!      ─ 13500 media_tap ─ engine
//! ```

use std::collections::VecDeque;

use rtc::interceptor::{StreamInfo, TaggedPacket};

mod arrivals;
#[cfg(test)]
mod chain_tests;
mod departure;
#[cfg(test)]
mod departure_tests;
mod feedback;
mod media_tap;
mod nack;
mod rtx_unwrap;
mod sent;
mod wire_tap;

pub(crate) use departure::Departure;
pub(crate) use feedback::Feedback;
pub(crate) use media_tap::MediaTap;
pub(crate) use nack::Nack;
pub(crate) use rtx_unwrap::RtxUnwrap;
pub(crate) use wire_tap::WireTap;

/// Header extensions: the number of a packet among all of a connection, and the tag of its section (RFC 9143 §14).
pub(crate) const TWCC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
pub(crate) const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";

/// The id that was agreed on for a header extension.
fn extension(info: &StreamInfo, uri: &str) -> Option<u8> {
    let found = info.rtp_header_extensions.iter().find(|extension| extension.uri == uri)?;
    u8::try_from(found.id).ok().filter(|&id| id != 0)
}

/// What a step has done and the next one has not taken yet. The chain empties both after every packet.
#[derive(Default)]
struct Belt {
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

/// The parts of an interceptor that are the same for all of them: handing on what is on its belt.
macro_rules! belt_methods {
    () => {
        fn poll_read(&mut self) -> Option<TaggedPacket> {
            self.belt.read.pop_front()
        }

        fn poll_write(&mut self) -> Option<TaggedPacket> {
            self.belt.write.pop_front()
        }
    };
}
use belt_methods;

/// An interceptor's associated types, which are always the same.
macro_rules! belt_types {
    () => {
        type Rout = TaggedPacket;
        type Wout = TaggedPacket;
        type Eout = ();
        type Error = rtc::shared::error::Error;
        type Time = std::time::Instant;
    };
}
use belt_types;

#[cfg(test)]
pub(crate) mod testing {
    use std::time::Instant;

    use rtc::interceptor::{AttributedPacket, Packet, StreamInfo, TaggedPacket};
    use rtc::shared::TransportContext;

    pub(crate) fn rtp(
        now: Instant,
        ssrc: u32,
        payload_type: u8,
        sequence: u16,
        payload: &[u8],
    ) -> TaggedPacket {
        let header = rtc::rtp::Header {
            version: 2,
            ssrc,
            payload_type,
            sequence_number: sequence,
            ..Default::default()
        };
        tagged(now, Packet::Rtp(rtc::rtp::Packet { header, payload: payload.to_vec().into() }))
    }

    pub(crate) fn tagged(now: Instant, packet: Packet) -> TaggedPacket {
        TaggedPacket { now, transport: TransportContext::default(), message: AttributedPacket::new(packet) }
    }

    pub(crate) fn vp8(ssrc: u32, rtx: u32) -> StreamInfo {
        StreamInfo {
            ssrc,
            ssrc_rtx: Some(rtx),
            payload_type: 96,
            payload_type_rtx: Some(97),
            mime_type: "video/VP8".into(),
            clock_rate: 90_000,
            rtcp_feedback: vec![rtc::interceptor::RTCPFeedback {
                typ: "nack".into(),
                parameter: String::new(),
            }],
            ..Default::default()
        }
    }
}
