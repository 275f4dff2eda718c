//! The packets of one stream that were sent lately: what is missing is sent again out of here (RFC 4588), and probes of
//! the path are filled up with it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use rtc::rtp;

/// Packets kept: what a stream of 2.5 Mbit/s sends in 2 s, which is longer than a receiver asks for one.
const KEPT: usize = 512;
/// How far back a packet for padding may lie: a receiver drops what it has given up less cheaply than what it has.
const RECENT: usize = 32;

struct Sent {
    packet: rtp::Packet,
    /// When it left last, again or for the first time.
    at: Instant,
}

/// Sequence numbers count up, with a hole here and there.
#[derive(Default)]
pub(super) struct SentPackets {
    packets: VecDeque<Sent>,
    /// Where padding goes on, counted from the newest.
    padding: usize,
}

impl SentPackets {
    pub(super) fn push(&mut self, packet: rtp::Packet, at: Instant) {
        if self.packets.len() == KEPT {
            self.packets.pop_front();
        }
        self.packets.push_back(Sent { packet, at });
        self.padding = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The packet of this number, unless it left within `pause`: the request for it crossed its repair.
    pub(super) fn again(&mut self, sequence: u16, now: Instant, pause: Duration) -> Option<&rtp::Packet> {
        let newest = self.packets.back()?.packet.header.sequence_number;
        let behind = |number: u16| newest.wrapping_sub(number);
        let index = self
            .packets
            .binary_search_by_key(&std::cmp::Reverse(behind(sequence)), |sent| {
                std::cmp::Reverse(behind(sent.packet.header.sequence_number))
            })
            .ok()?;
        let sent = &mut self.packets[index];
        if now.saturating_duration_since(sent.at) < pause {
            return None;
        }
        sent.at = now;
        Some(&sent.packet)
    }

    /// One of the newest packets that are not small, a different one each time: it repairs its original, should that
    /// have been lost.
    pub(super) fn padding(&mut self) -> Option<&rtp::Packet> {
        let recent = self.packets.len().min(RECENT);
        let size = |index: usize| self.packets[self.packets.len() - 1 - index].packet.payload.len();
        let large = (0..recent).map(size).max()? / 2;
        // The largest one itself ends the search.
        let index = (self.padding..2 * recent).map(|at| at % recent).find(|&at| size(at) >= large)?;
        self.padding = (index + 1) % recent;
        self.packets.get(self.packets.len() - 1 - index).map(|sent| &sent.packet)
    }
}

/// The packet as its RTX stream carries it (RFC 4588 §4); its sequence number is given when it leaves.
pub(super) fn wrap(packet: &rtp::Packet, ssrc: u32, payload_type: u8) -> rtp::Packet {
    let mut payload = BytesMut::with_capacity(2 + packet.payload.len());
    payload.put_u16(packet.header.sequence_number);
    payload.put_slice(&packet.payload);
    let header = rtp::Header {
        version: 2,
        ssrc,
        payload_type,
        timestamp: packet.header.timestamp,
        marker: packet.header.marker,
        ..Default::default()
    };
    rtp::Packet { header, payload: Bytes::from(payload) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence_number: u16) -> rtp::Packet {
        let header = rtp::Header { version: 2, sequence_number, ..Default::default() };
        rtp::Packet { header, payload: Bytes::from_static(b"x") }
    }

    #[test]
    fn a_packet_is_sent_again_once_in_a_round_trip_and_as_long_as_it_is_kept() {
        let (mut sent, start, pause) = (SentPackets::default(), Instant::now(), Duration::from_millis(50));
        for sequence in (65_500..=65_535).chain(0..500) {
            sent.push(packet(sequence), start);
        }
        let later = start + 2 * pause;
        assert_eq!(sent.again(65_535, later, pause).unwrap().header.sequence_number, 65_535);
        assert!(sent.again(65_535, later + pause / 2, pause).is_none(), "just sent");
        assert!(sent.again(65_535, later + pause, pause).is_some());
        assert!(sent.again(65_505, later, pause).is_none(), "512 are kept");
        assert!(sent.again(500, later, pause).is_none(), "not sent yet");
    }

    #[test]
    fn padding_goes_round_the_newest_packets() {
        let mut sent = SentPackets::default();
        assert!(sent.padding().is_none());
        for sequence in 10..13 {
            sent.push(packet(sequence), Instant::now());
        }
        let mut take = |times: usize| -> Vec<u16> {
            (0..times).map(|_| sent.padding().unwrap().header.sequence_number).collect()
        };
        assert_eq!(take(4), [12, 11, 10, 12]);
        let mut large = packet(13);
        large.payload = Bytes::from_static(b"a large one");
        sent.push(large, Instant::now());
        let sizes: Vec<usize> = (0..3).map(|_| sent.padding().unwrap().payload.len()).collect();
        assert_eq!(sizes, [11; 3], "small packets would take many");
    }

    #[test]
    fn a_wrapped_packet_begins_with_its_number() {
        let wrapped = wrap(&packet(0x1234), 7, 97);
        assert_eq!((wrapped.header.ssrc, wrapped.header.payload_type), (7, 97));
        assert_eq!(&wrapped.payload[..], &[0x12, 0x34, b'x']);
    }
}
