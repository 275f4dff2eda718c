//! The last step before the encryption: when each packet leaves, and what the path is thought to carry.
//!
//! 1. Everything sent waits in the pacer: sound leaves at once, then repairs, then pictures, then padding.
//! 2. What leaves gets its sequence number, its transport-wide number and, until the other side has shown that it knows
//!    the stream, the tag of its section.
//! 3. The other side reports when each number arrived; the estimator makes a rate of it, which the pacer follows.
//! 4. The other side asks for what it misses; it is wrapped and waits in the pacer like the rest.
//!
//! The library numbers and paces in steps of their own, with one queue for everything, and never probes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::interceptor::{Attribute, AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::marshal::MarshalSize;
use rtc::{rtcp, rtp};
use snug_media_proto::estimate::{Estimator, EstimatorConfig};
use snug_media_proto::pacer::{Pacer, PacerEvent, PacketKind, Released};
use snug_media_proto::section::Section;
use snug_media_proto::vp8::Descriptor;

use super::arrivals::Arrivals;
use super::sent::{SentPackets, wrap};
use super::{Belt, MID, TWCC, belt_methods, belt_types, extension};
use crate::shared::{START_BITRATE, Shared};
use crate::stats::Flow;

/// Around each RTP packet: UDP and IPv4, the authentication of SRTP, the header extensions.
const AROUND: usize = 28 + 16 + 8;
/// What the headers leave of the estimate: a packet of pictures has about 70 bytes of them in 1,250.
const FOR_PAYLOADS: f64 = 0.94;
/// The shortest time between two repairs of one packet.
const REPAIR_PAUSE: Duration = Duration::from_millis(15);
/// The estimate stays within these, in bit/s.
const LEAST: u64 = 40_000;
/// What is assumed of a path that has carried no picture yet, in bit/s: room for sound and the smallest picture. Sound alone fills too little
/// of a path to show more, and nothing is there to probe with.
const UNTRIED: u64 = 160_000;
const MOST: u64 = 10_000_000;

/// One of this side's streams.
struct Stream {
    section: Section,
    /// SSRC and payload type of its repairs, where agreed on.
    rtx: Option<(u32, u8)>,
    /// Header extension of the transport-wide number.
    twcc: Option<u8>,
    /// Header extension of the section's tag, until the other side has reported about the stream.
    mid: Option<u8>,
    tag: Option<Bytes>,
    next: u16,
    next_repair: u16,
    /// The frame that left last has not left whole.
    is_cut: bool,
    sent: SentPackets,
}

pub(crate) struct Departure {
    streams: BTreeMap<u32, Stream>,
    pacer: Pacer<TaggedPacket>,
    /// Made with the first packet, which brings the time.
    estimator: Option<Estimator>,
    arrivals: Arrivals,
    /// The next transport-wide number; the wire carries its low 16 bits.
    next: u64,
    shared: Arc<Shared>,
    belt: Belt,
}

impl Departure {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            streams: BTreeMap::new(),
            pacer: Pacer::new(START_BITRATE),
            estimator: None,
            arrivals: Arrivals::default(),
            next: 0,
            shared,
            belt: Belt::default(),
        }
    }

    fn estimator(&mut self, now: Instant) -> &mut Estimator {
        self.estimator.get_or_insert_with(|| {
            let config = EstimatorConfig { start_bps: START_BITRATE, min_bps: LEAST, max_bps: MOST };
            Estimator::new(now, config)
        })
    }

    /// Lets go what may leave, filled up with padding while a probe runs.
    fn release(&mut self, now: Instant) {
        let useful = self.shared.useful.load(Ordering::Relaxed);
        let can_pad = self.streams.values().any(Stream::can_pad);
        let estimator = self.estimator(now);
        estimator.set_useful((useful as f64 / FOR_PAYLOADS) as u64);
        let probe = if can_pad { estimator.poll_probe(now) } else { None };
        let rate = estimator.estimate_bps();
        if let Some(cluster) = probe {
            tracing::debug!(rate = cluster.rate_bps, estimate = rate, "the path is probed");
            self.pacer.start_probe(cluster, now);
        }
        self.pacer.set_rate(rate);
        loop {
            while let Some(released) = self.pacer.poll(now) {
                self.leave(released, now);
            }
            if !self.pacer.padding_wanted(now) {
                break;
            }
            if let Some(packet) = self.streams.values_mut().find_map(Stream::padding) {
                self.enqueue(packet, PacketKind::Probe, now);
            } else {
                self.pacer.cancel_probe();
            }
        }
        self.tell_flow();
    }

    fn enqueue(&mut self, packet: rtp::Packet, kind: PacketKind, now: Instant) -> bool {
        let bytes = packet.marshal_size() + AROUND;
        let mut message = AttributedPacket::new(Packet::Rtp(packet));
        if kind == PacketKind::Retransmission {
            message.add(Attribute::Retransmission);
        }
        let tagged = TaggedPacket { now, transport: TransportContext::default(), message };
        self.pacer.enqueue(tagged, kind, bytes, now)
    }

    fn leave(&mut self, released: Released<TaggedPacket>, now: Instant) {
        let Released { packet: mut tagged, kind, bytes, probe } = released;
        let Packet::Rtp(packet) = &mut tagged.message.packet else { return };
        let ssrc = packet.header.ssrc;
        let owner = self.streams.iter_mut().find(|(media, stream)| {
            **media == ssrc || stream.rtx.is_some_and(|(repairs, _)| repairs == ssrc)
        });
        let Some((&media, stream)) = owner else { return };
        if let PacketKind::Video { start, .. } = kind {
            // The rest of a frame was not taken from the engine: a hole tells the receiver.
            stream.next = stream.next.wrapping_add(u16::from(start && stream.is_cut));
            stream.is_cut = !packet.header.marker;
        }
        let next = if media == ssrc { &mut stream.next } else { &mut stream.next_repair };
        packet.header.sequence_number = *next;
        *next = next.wrapping_add(1);
        if media == ssrc && stream.rtx.is_some() {
            stream.sent.push(packet.clone(), now);
        }
        if let Some(id) = stream.mid {
            let tag = stream.tag.get_or_insert_with(|| tag_of(&self.shared, stream.section));
            stamp(&mut packet.header, id, tag.clone());
        }
        if let Some(id) = stream.twcc {
            stamp(&mut packet.header, id, Bytes::copy_from_slice(&(self.next as u16).to_be_bytes()));
            if let Some(estimator) = &mut self.estimator {
                estimator.on_sent(self.next, bytes, now, kind, probe);
            }
            self.next += 1;
        }
        tagged.now = now;
        self.belt.write.push_back(tagged);
    }

    /// Tells the encoders' side what the pacer did to whole frames.
    fn tell_flow(&mut self) {
        while let Some(event) = self.pacer.poll_event() {
            let (section, flow) = match event {
                PacerEvent::Dropping(section) => (section, Flow::Full),
                PacerEvent::KeyFrameWanted(section) => (section, Flow::KeyFrameWanted),
            };
            self.shared.state().flow[section.index()] = flow;
        }
    }

    fn read_rtcp(&mut self, now: Instant, packet: &dyn rtcp::Packet) {
        let packet = packet.as_any();
        if let Some(feedback) = packet.downcast_ref::<TransportLayerCc>() {
            let rtt = self.shared.state().stats.rtt;
            // Nothing was sent that it could be about.
            let Some(estimator) = &mut self.estimator else { return };
            let reports = self.arrivals.read(feedback, self.next, |ids| estimator.awaited(ids));
            if !rtt.is_zero() {
                estimator.on_rtt(rtt);
            }
            estimator.on_feedback(now, &reports);
            self.publish();
        } else if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
            self.repair(now, nack);
        } else if let Some(report) = packet.downcast_ref::<ReceiverReport>() {
            self.on_reports(&report.reports);
        } else if let Some(report) = packet.downcast_ref::<SenderReport>() {
            self.on_reports(&report.reports);
        }
    }

    /// Who reports about a stream knows which section it belongs to.
    fn on_reports(&mut self, reports: &[ReceptionReport]) {
        for report in reports {
            if let Some(stream) = self.streams.get_mut(&report.ssrc) {
                stream.mid = None;
            }
        }
    }

    fn repair(&mut self, now: Instant, nack: &TransportLayerNack) {
        let pause = self.shared.state().stats.rtt.max(REPAIR_PAUSE);
        let Some(stream) = self.streams.get_mut(&nack.media_ssrc) else { return };
        let Some((ssrc, payload_type)) = stream.rtx else { return };
        let numbers = nack.nacks.iter().flat_map(|pair| {
            let more = (0..16).filter(|bit| pair.lost_packets & (1 << bit) != 0).map(|bit| bit + 1);
            std::iter::once(0).chain(more).map(|offset| pair.packet_id.wrapping_add(offset))
        });
        let repairs: Vec<rtp::Packet> = numbers
            .filter_map(|number| Some(wrap(stream.sent.again(number, now, pause)?, ssrc, payload_type)))
            .collect();
        for repair in repairs {
            self.enqueue(repair, PacketKind::Retransmission, now);
        }
    }

    fn publish(&mut self) {
        let Some(estimator) = &self.estimator else { return };
        let payloads = |bps: u64| (bps as f64 * FOR_PAYLOADS) as u64;
        let least = if self.streams.values().any(Stream::can_pad) { 0 } else { UNTRIED };
        let mut state = self.shared.state();
        let estimate = &mut state.estimate;
        estimate.bitrate_bps = payloads(estimator.estimate_bps()).max(least);
        estimate.arriving_bps = payloads(estimator.acked_bps());
        estimate.queue_delay = estimator.queue_delay();
        estimate.loss = estimator.loss() as f32;
    }
}

impl Stream {
    fn can_pad(&self) -> bool {
        self.rtx.is_some() && !self.sent.is_empty()
    }

    fn padding(&mut self) -> Option<rtp::Packet> {
        let (ssrc, payload_type) = self.rtx?;
        self.sent.padding().map(|packet| wrap(packet, ssrc, payload_type))
    }
}

fn stamp(header: &mut rtp::Header, id: u8, value: Bytes) {
    // Refused are ids and sizes that no description can agree on; the packet is of use without.
    let _ = header.set_extension(id, value);
}

fn tag_of(shared: &Shared, section: Section) -> Bytes {
    let state = shared.state();
    let tag = state.local.mids.iter().find(|&(_, &named)| named == section);
    tag.map_or_else(Bytes::new, |(tag, _)| Bytes::copy_from_slice(tag.as_bytes()))
}

/// A picture's packet, as the pacer has to see it. What cannot be read is the middle of a frame.
fn kind_of(section: Section, payload: &[u8]) -> PacketKind {
    if !section.is_video() {
        return PacketKind::Audio;
    }
    let (mut start, mut key) = (false, false);
    if let Ok((descriptor, length)) = Descriptor::parse(payload) {
        start = descriptor.start && descriptor.partition == 0;
        // RFC 6386 §9.1: the lowest bit of a frame is 0 for key frames.
        key = start && payload.get(length).is_some_and(|first| first & 1 == 0);
    }
    PacketKind::Video { section, start, key }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Departure {
    belt_types!();
    belt_methods!();

    fn handle_read(&mut self, tagged: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtcp(packets) = &tagged.message.packet {
            for packet in packets {
                self.read_rtcp(tagged.now, packet.as_ref());
            }
            self.release(tagged.now);
        }
        self.belt.read.push_back(tagged);
        Ok(())
    }

    fn handle_write(&mut self, tagged: TaggedPacket) -> Result<(), Self::Error> {
        let now = tagged.now;
        let Packet::Rtp(packet) = tagged.message.packet else {
            // Control packets are few, and late ones of no use.
            self.belt.write.push_back(tagged);
            return Ok(());
        };
        // What belongs to no stream was not agreed on.
        let Some(section) = self.streams.get(&packet.header.ssrc).map(|stream| stream.section) else {
            return Ok(());
        };
        let kind = kind_of(section, &packet.payload);
        let taken = self.enqueue(packet, kind, now);
        if taken && matches!(kind, PacketKind::Video { key: true, .. }) {
            self.shared.state().flow[section.index()] = Flow::Open;
        }
        self.release(now);
        Ok(())
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Self::Error> {
        let Some(estimator) = &mut self.estimator else { return Ok(()) };
        if estimator.poll_timeout().is_some_and(|at| at <= now) {
            estimator.handle_timeout(now);
            self.publish();
        }
        self.release(now);
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        let estimator = self.estimator.as_ref().and_then(Estimator::poll_timeout);
        self.pacer.poll_timeout().into_iter().chain(estimator).min()
    }
}

impl Interceptor for Departure {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        let Some(section) = self.shared.our_section(info.ssrc) else { return };
        let (first, first_repair) = self.shared.ours[section.index()].first;
        let stream = self.streams.entry(info.ssrc).or_insert_with(|| Stream {
            section,
            rtx: None,
            twcc: None,
            mid: extension(info, MID),
            tag: None,
            next: first,
            next_repair: first_repair,
            is_cut: false,
            sent: SentPackets::default(),
        });
        stream.rtx = info.ssrc_rtx.zip(info.payload_type_rtx);
        stream.twcc = extension(info, TWCC);
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        // Its numbers must not begin anew: no two packets may be encrypted alike (RFC 3711 §3.3.1).
        if let Some(stream) = self.streams.get_mut(&info.ssrc) {
            (stream.rtx, stream.twcc, stream.mid) = (None, None, None);
        }
    }

    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}

    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}
