//! Takes retransmissions out of their RTX stream before anything looks for gaps (RFC 4588).
//! The library does so only after its NACK generator, which then asks for repaired packets for ever.

use std::collections::BTreeMap;
use std::time::Instant;

use rtc::interceptor::{Attribute, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::sansio::Protocol;
use snug_media_proto::rtx::RtxMapping;

use super::{Belt, belt_methods, belt_types};

#[derive(Default)]
pub(crate) struct RtxUnwrap {
    /// SSRC of an RTX stream → what it repairs.
    streams: BTreeMap<u32, RtxMapping>,
    belt: Belt,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for RtxUnwrap {
    belt_types!();
    belt_methods!();

    fn handle_read(&mut self, mut tagged: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtp(packet) = &mut tagged.message.packet
            && let Some(mapping) = self.streams.get(&packet.header.ssrc)
        {
            let Some(original) = mapping.unwrap(packet.header.payload_type, &packet.payload) else {
                return Ok(());
            };
            packet.header.ssrc = original.ssrc;
            packet.header.payload_type = original.payload_type;
            packet.header.sequence_number = original.sequence;
            packet.payload = original.payload;
            tagged.message.add(Attribute::Retransmission);
        }
        self.belt.read.push_back(tagged);
        Ok(())
    }

    fn handle_write(&mut self, tagged: TaggedPacket) -> Result<(), Self::Error> {
        self.belt.write.push_back(tagged);
        Ok(())
    }

    fn handle_timeout(&mut self, _now: Instant) -> Result<(), Self::Error> {
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }
}

impl Interceptor for RtxUnwrap {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        if let (Some(rtx), Some(payload_type)) = (info.ssrc_rtx, info.payload_type_rtx) {
            let payload_types = BTreeMap::from([(payload_type, info.payload_type)]);
            self.streams.insert(rtx, RtxMapping { media_ssrc: info.ssrc, payload_types });
        }
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.streams.retain(|_, mapping| mapping.media_ssrc != info.ssrc);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rtp, vp8};
    use super::*;

    #[test]
    fn a_retransmission_becomes_the_packet_that_was_lost() {
        let mut unwrap = RtxUnwrap::default();
        unwrap.bind_remote_stream(&vp8(1, 2));
        unwrap.handle_read(rtp(Instant::now(), 2, 97, 500, &[0x12, 0x34, 9, 9])).unwrap();
        let tagged = unwrap.poll_read().unwrap();
        assert!(tagged.message.has(&Attribute::Retransmission));
        let Packet::Rtp(packet) = tagged.message.packet else { panic!("not RTP") };
        assert_eq!((packet.header.ssrc, packet.header.payload_type), (1, 96));
        assert_eq!(packet.header.sequence_number, 0x1234);
        assert_eq!(&packet.payload[..], &[9, 9]);
    }

    #[test]
    fn padding_in_an_rtx_stream_is_dropped_and_other_streams_are_left_alone() {
        let mut unwrap = RtxUnwrap::default();
        unwrap.bind_remote_stream(&vp8(1, 2));
        unwrap.handle_read(rtp(Instant::now(), 2, 97, 1, &[])).unwrap();
        assert!(unwrap.poll_read().is_none());
        unwrap.handle_read(rtp(Instant::now(), 1, 96, 1, &[5])).unwrap();
        assert!(unwrap.poll_read().is_some());
    }
}
