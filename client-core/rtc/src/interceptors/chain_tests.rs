//! What the whole chain does to a packet, without clock or socket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::interceptor::{Interceptor, Packet, RTPHeaderExtension, TaggedPacket};
use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
};
use rtc::sansio::Protocol;

use super::TWCC;
use super::testing::{rtp, vp8};
use crate::event::peer_channels;
use crate::factory::interceptors;
use crate::shared::{LocalStream, Shared};

const MEDIA: (u32, u8) = (1, 96);
const REPAIRS: (u32, u8) = (2, 97);

/// A packet with its transport-wide number.
fn packet(now: Instant, (ssrc, kind): (u32, u8), sequence: u16, number: u16, payload: &[u8]) -> TaggedPacket {
    let mut tagged = rtp(now, ssrc, kind, sequence, payload);
    if let Packet::Rtp(packet) = &mut tagged.message.packet {
        packet.header.set_extension(3, number.to_be_bytes().to_vec().into()).unwrap();
    }
    tagged
}

/// How many packets a feedback says came, and how many did not.
fn counts(feedback: &TransportLayerCc) -> (usize, usize) {
    let mut symbols = Vec::new();
    for chunk in &feedback.packet_chunks {
        match chunk {
            PacketStatusChunk::RunLengthChunk(run) => {
                symbols.extend(vec![run.packet_status_symbol; usize::from(run.run_length)]);
            }
            PacketStatusChunk::StatusVectorChunk(vector) => symbols.extend(&vector.symbol_list),
        }
    }
    symbols.truncate(feedback.packet_status_count.into());
    let lost = symbols.iter().filter(|symbol| **symbol == SymbolTypeTcc::PacketNotReceived).count();
    (symbols.len() - lost, lost)
}

#[test]
fn padding_and_what_comes_twice_is_reported_as_arrived() {
    let (events, _control, mut media) = peer_channels();
    let shared = Shared::new(events, [9, 10, 11, 12].map(|ssrc| LocalStream::new(ssrc, ssrc + 10)));
    let mut chain = interceptors(&Arc::clone(&shared)).build();
    let mut info = vp8(MEDIA.0, REPAIRS.0);
    info.rtp_header_extensions = vec![RTPHeaderExtension { uri: TWCC.into(), id: 3 }];
    chain.bind_remote_stream(&info);
    shared.state().streams.insert(MEDIA.0, snug_media_proto::section::Section::Camera);
    shared.state().local.payloads.insert(MEDIA.1, crate::event::PayloadKind::Vp8);
    let start = Instant::now();
    let picture = [0x10, 0, 1, 2];
    let padding = [&10u16.to_be_bytes()[..], &picture].concat();
    for tagged in [
        packet(start, MEDIA, 10, 0, &picture),
        // A probe of ours is filled up with what has just been sent, one of Chromium's with nothing at all.
        packet(start, REPAIRS, 500, 1, &padding),
        packet(start, REPAIRS, 501, 2, &[]),
        packet(start, MEDIA, 10, 3, &picture),
        packet(start, MEDIA, 11, 4, &picture),
    ] {
        chain.handle_read(tagged).unwrap();
        while chain.poll_read().is_some() {}
    }
    let (mut came, mut lost) = (0, 0);
    chain.handle_timeout(start + Duration::from_millis(40)).unwrap();
    while let Some(tagged) = chain.poll_write() {
        let Packet::Rtcp(packets) = tagged.message.packet else { continue };
        for feedback in packets.iter().filter_map(|one| one.as_any().downcast_ref::<TransportLayerCc>()) {
            let (more, missing) = counts(feedback);
            (came, lost) = (came + more, lost + missing);
        }
    }
    assert_eq!((came, lost), (5, 0));
    let handed_on = std::iter::from_fn(|| media.try_recv().ok()).count();
    assert_eq!(handed_on, 2, "each picture once");
}
