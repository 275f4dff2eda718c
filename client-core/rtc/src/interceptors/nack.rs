//! Asks for lost video packets, and drops those that come twice. Sound is not asked for: it has redundancy instead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rtc::interceptor::{Attribute, AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use snug_media_proto::nack::NackGenerator;

use super::{Belt, belt_methods, belt_types};
use crate::shared::Shared;

pub(crate) struct Nack {
    streams: BTreeMap<u32, NackGenerator>,
    shared: Arc<Shared>,
    belt: Belt,
}

impl Nack {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { streams: BTreeMap::new(), shared, belt: Belt::default() }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Nack {
    belt_types!();
    belt_methods!();

    fn handle_read(&mut self, tagged: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtp(packet) = &tagged.message.packet
            && let Some(generator) = self.streams.get_mut(&packet.header.ssrc)
            && !generator.on_packet(tagged.now, packet.header.sequence_number)
        {
            let unasked = tagged.message.has(&Attribute::Retransmission)
                && !generator.was_asked_for(packet.header.sequence_number);
            let mut state = self.shared.state();
            if let Some(&section) = state.streams.get(&packet.header.ssrc) {
                let stats = &mut state.stats.sections[section.index()];
                *if unasked { &mut stats.padding_received } else { &mut stats.duplicates } += 1;
            }
            return Ok(());
        }
        self.belt.read.push_back(tagged);
        Ok(())
    }

    fn handle_write(&mut self, tagged: TaggedPacket) -> Result<(), Self::Error> {
        self.belt.write.push_back(tagged);
        Ok(())
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Self::Error> {
        let rtt = self.shared.state().stats.rtt;
        for (&media_ssrc, generator) in &mut self.streams {
            if !rtt.is_zero() {
                generator.set_rtt(rtt);
            }
            let missing = generator.poll(now);
            if missing.is_empty() {
                continue;
            }
            let mut state = self.shared.state();
            if let Some(&section) = state.streams.get(&media_ssrc) {
                state.stats.sections[section.index()].nacks_sent += missing.len() as u64;
            }
            drop(state);
            let nack = TransportLayerNack {
                sender_ssrc: self.shared.ours[0].ssrc,
                media_ssrc,
                nacks: nack_pairs_from_sequence_numbers(&missing),
            };
            self.belt.write.push_back(TaggedPacket {
                now,
                transport: TransportContext::default(),
                message: AttributedPacket::new(Packet::Rtcp(vec![Box::new(nack)])),
            });
        }
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.streams.values().filter_map(NackGenerator::poll_timeout).min()
    }
}

impl Interceptor for Nack {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        let asked_for =
            info.rtcp_feedback.iter().any(|feedback| feedback.typ == "nack" && feedback.parameter.is_empty());
        if asked_for && info.mime_type.to_ascii_lowercase().starts_with("video/") {
            // A renegotiation binds the stream again; what is known of it stays.
            self.streams.entry(info.ssrc).or_default();
        }
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.streams.remove(&info.ssrc);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{rtp, vp8};
    use super::*;
    use crate::event::peer_channels;
    use crate::shared::LocalStream;

    fn nack() -> Nack {
        let mut nack = Nack::new(Shared::new(peer_channels().0, [LocalStream::new(9, 10); 4]));
        nack.bind_remote_stream(&vp8(1, 2));
        nack
    }

    #[test]
    fn a_gap_is_asked_for_and_what_comes_twice_is_dropped() {
        let (mut nack, start) = (nack(), Instant::now());
        for sequence in [10, 12] {
            nack.handle_read(rtp(start, 1, 96, sequence, &[1])).unwrap();
        }
        let due = nack.poll_timeout().unwrap();
        assert!(due > start && due < start + Duration::from_millis(50));
        nack.handle_timeout(due).unwrap();
        let Packet::Rtcp(list) = nack.poll_write().unwrap().message.packet else { panic!("not RTCP") };
        let asked = list[0].as_any().downcast_ref::<TransportLayerNack>().unwrap();
        assert_eq!((asked.media_ssrc, asked.nacks[0].packet_id, asked.nacks[0].lost_packets), (1, 11, 0));
        for _ in 0..2 {
            nack.handle_read(rtp(due, 1, 96, 11, &[1])).unwrap();
        }
        assert_eq!(std::iter::from_fn(|| nack.poll_read()).count(), 3);
        assert!(nack.poll_timeout().is_none());
    }

    #[test]
    fn sound_is_not_asked_for() {
        let (mut nack, start) = (nack(), Instant::now());
        let mut opus = vp8(5, 6);
        opus.mime_type = "audio/opus".into();
        nack.bind_remote_stream(&opus);
        for sequence in [10, 12] {
            nack.handle_read(rtp(start, 5, 111, sequence, &[1])).unwrap();
        }
        assert!(nack.poll_timeout().is_none());
    }
}
