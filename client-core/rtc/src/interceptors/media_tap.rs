//! The end of the way in: hands media to the engine's own bounded queue and counts it.
//! Packets taken here do not go on into the library's track queues, which drop silently and know no arrival times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::interceptor::{Attribute, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtp;
use rtc::sansio::Protocol;
use snug_media_proto::section::Section;

use super::{Belt, MID, belt_methods, belt_types, extension};
use crate::event::{IncomingRtp, PayloadKind, Rtp};
use crate::sdp::MOST_STREAMS;
use crate::shared::Shared;

/// One received stream, for loss and jitter (RFC 3550 §6.4.1, appendix A.3 and A.8).
struct Stream {
    clock_rate: u32,
    mid_extension: Option<u8>,
    first: Option<u64>,
    highest: u64,
    received: u64,
    /// Arrival and RTP timestamp of the packet before.
    before: Option<(Instant, u32)>,
    jitter: f64,
}

impl Stream {
    fn on_packet(&mut self, now: Instant, header: &rtp::Header, recovered: bool) {
        match self.first {
            None => {
                // Far enough from zero that a reordered first packet does not go below it.
                self.highest = 0x1_0000 + u64::from(header.sequence_number);
                self.first = Some(self.highest);
            }
            Some(first) => {
                let ahead = header.sequence_number.wrapping_sub(self.highest as u16) as i16;
                let sequence = self.highest.saturating_add_signed(i64::from(ahead));
                self.highest = self.highest.max(sequence);
                self.first = Some(first.min(sequence));
            }
        }
        self.received += 1;
        // A packet that was sent twice says nothing about how long packets take.
        if recovered {
            return;
        }
        if let Some((arrival, timestamp)) = self.before.replace((now, header.timestamp))
            && timestamp != header.timestamp
        {
            let apart = now.saturating_duration_since(arrival).as_secs_f64() * f64::from(self.clock_rate);
            let meant = f64::from(header.timestamp.wrapping_sub(timestamp) as i32);
            self.jitter += ((apart - meant).abs() - self.jitter) / 16.0;
        }
    }

    fn lost(&self) -> u64 {
        self.first.map_or(0, |first| (self.highest - first + 1).saturating_sub(self.received))
    }

    fn jitter(&self) -> Duration {
        let seconds = self.jitter / f64::from(self.clock_rate.max(1));
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }
}

pub(crate) struct MediaTap {
    streams: BTreeMap<u32, Stream>,
    shared: Arc<Shared>,
    belt: Belt,
}

impl MediaTap {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { streams: BTreeMap::new(), shared, belt: Belt::default() }
    }

    /// The section and the kind of payload of a packet; `None` for what was not negotiated.
    fn classify(&self, header: &rtp::Header, mid_extension: Option<u8>) -> Option<(Section, PayloadKind)> {
        let mut state = self.shared.state();
        let section = match state.streams.get(&header.ssrc) {
            Some(&section) => section,
            None => {
                // A stream that the description does not name carries its section's tag.
                let tag = header.get_extension(mid_extension?)?;
                let section = *state.remote.mids.get(std::str::from_utf8(&tag).ok()?)?;
                if state.streams.len() < 2 * MOST_STREAMS {
                    state.streams.insert(header.ssrc, section);
                }
                section
            }
        };
        let payloads = &state.local.payloads;
        let kind = *payloads.get(&header.payload_type)?;
        ((kind == PayloadKind::Vp8) == section.is_video()).then_some((section, kind))
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for MediaTap {
    belt_types!();
    belt_methods!();

    fn handle_read(&mut self, tagged: TaggedPacket) -> Result<(), Self::Error> {
        let Packet::Rtp(packet) = &tagged.message.packet else { return Ok(()) };
        // The library makes a stream of an SSRC that no description names, from its first packets.
        let Some(mid_extension) = self.streams.get(&packet.header.ssrc).map(|stream| stream.mid_extension)
        else {
            self.belt.read.push_back(tagged);
            return Ok(());
        };
        let Some((section, payload_kind)) = self.classify(&packet.header, mid_extension) else {
            return Ok(());
        };
        let recovered = tagged.message.has(&Attribute::Retransmission);
        let incoming = IncomingRtp {
            sequence: packet.header.sequence_number,
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            payload: packet.payload.clone(),
            payload_kind,
            arrival: tagged.now,
            recovered,
        };
        // Senders pad to probe the path; that is no media.
        let delivered = packet.payload.is_empty()
            || self.shared.events.media.try_send(Rtp { section, packet: incoming }).is_ok();
        let Some(stream) = self.streams.get_mut(&packet.header.ssrc) else { return Ok(()) };
        stream.on_packet(tagged.now, &packet.header, recovered);
        let mut state = self.shared.state();
        state.heard[section.index()] = Some(packet.header.ssrc);
        let stats = &mut state.stats.sections[section.index()];
        stats.packets_received += 1;
        stats.bytes_received += packet.payload.len() as u64;
        stats.recovered += u64::from(recovered);
        stats.overrun += u64::from(!delivered);
        stats.lost = stream.lost();
        stats.jitter = stream.jitter();
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

impl Interceptor for MediaTap {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        self.streams.entry(info.ssrc).or_insert(Stream {
            clock_rate: info.clock_rate,
            mid_extension: extension(info, MID),
            first: None,
            highest: 0,
            received: 0,
            before: None,
            jitter: 0.0,
        });
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.streams.remove(&info.ssrc);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rtp, vp8};
    use super::*;
    use crate::event::peer_channels;
    use crate::shared::LocalStream;

    #[test]
    fn media_goes_to_its_section_and_what_is_missing_is_counted() {
        let (events, _control, mut media) = peer_channels();
        let shared = Shared::new(events, [LocalStream::new(9, 10); 4]);
        shared.state().streams.insert(1, Section::Screen);
        shared.state().local.payloads.insert(96, PayloadKind::Vp8);
        let mut tap = MediaTap::new(shared.clone());
        tap.bind_remote_stream(&vp8(1, 2));
        for sequence in [65_534, 65_535, 1, 2] {
            tap.handle_read(rtp(Instant::now(), 1, 96, sequence, &[1, 2])).unwrap();
        }
        assert!(tap.poll_read().is_none(), "taken here");
        assert_eq!(media.try_recv().unwrap().section, Section::Screen);
        let stats = shared.state().stats.sections[Section::Screen.index()];
        assert_eq!((stats.packets_received, stats.bytes_received, stats.lost), (4, 8, 1));
    }

    #[test]
    fn payloads_of_the_wrong_kind_are_dropped() {
        let (events, _control, mut media) = peer_channels();
        let shared = Shared::new(events, [LocalStream::new(9, 10); 4]);
        shared.state().streams.insert(1, Section::Screen);
        shared.state().local.payloads.insert(96, PayloadKind::Opus);
        let mut tap = MediaTap::new(shared);
        tap.bind_remote_stream(&vp8(1, 2));
        tap.handle_read(rtp(Instant::now(), 1, 96, 1, &[1])).unwrap();
        assert!(media.try_recv().is_err());
    }
}
