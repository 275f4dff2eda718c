//! Next to the wire: counts what leaves, and reads what the other side reports about it (RFC 3550 §6.4, RFC 4585 §6).
//! The library hands inbound RTCP to nobody and counts none of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::interceptor::{Attribute, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp;
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::sansio::Protocol;

use super::{Belt, belt_methods, belt_types};
use crate::shared::Shared;

/// Sender reports whose answers are waited for: four sections, one a second each.
const REPORTS_KEPT: usize = 32;
/// A round trip above this is a lie or of no use.
const MAX_RTT: Duration = Duration::from_secs(10);

pub(crate) struct WireTap {
    shared: Arc<Shared>,
    /// Middle 32 bits of the NTP time of our reports, and when each left.
    reports: VecDeque<(u32, Instant)>,
    belt: Belt,
}

impl WireTap {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, reports: VecDeque::new(), belt: Belt::default() }
    }

    fn read_rtcp(&mut self, now: Instant, packet: &dyn rtcp::Packet) {
        let packet = packet.as_any();
        if let Some(report) = packet.downcast_ref::<SenderReport>() {
            self.shared.sender_report(now, report.ssrc, report.ntp_time, report.rtp_time);
            self.read_reports(now, &report.reports);
        } else if let Some(report) = packet.downcast_ref::<ReceiverReport>() {
            self.read_reports(now, &report.reports);
        } else if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
            if let Some(section) = self.shared.our_section(nack.media_ssrc) {
                let asked: u64 =
                    nack.nacks.iter().map(|pair| 1 + u64::from(pair.lost_packets.count_ones())).sum();
                self.shared.state().stats.sections[section.index()].nacks_received += asked;
            }
        } else if let Some(pli) = packet.downcast_ref::<PictureLossIndication>() {
            if let Some(section) = self.shared.our_section(pli.media_ssrc) {
                self.shared.key_frame_wanted(now, section);
            }
        } else if let Some(fir) = packet.downcast_ref::<FullIntraRequest>() {
            for section in fir.fir.iter().filter_map(|entry| self.shared.our_section(entry.ssrc)) {
                self.shared.key_frame_wanted(now, section);
            }
        }
    }

    fn read_reports(&mut self, now: Instant, reports: &[ReceptionReport]) {
        for report in reports {
            let Some(section) = self.shared.our_section(report.ssrc) else { continue };
            let left = self.reports.iter().find(|(ntp, _)| *ntp == report.last_sender_report && *ntp != 0);
            let mut state = self.shared.state();
            state.stats.sections[section.index()].loss_reported = f32::from(report.fraction_lost) / 256.0;
            if let Some(&(_, left)) = left {
                // 16.16 fixed point seconds (RFC 3550 §6.4.1).
                let held = Duration::from_secs_f64(f64::from(report.delay) / 65_536.0);
                let rtt = now.saturating_duration_since(left).saturating_sub(held);
                if rtt <= MAX_RTT {
                    state.stats.rtt = rtt;
                    state.estimate.rtt = rtt;
                }
            }
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for WireTap {
    belt_types!();
    belt_methods!();

    fn handle_read(&mut self, tagged: TaggedPacket) -> Result<(), Self::Error> {
        self.shared.state().alive_at = Some(tagged.now);
        if let Packet::Rtcp(packets) = &tagged.message.packet {
            for packet in packets {
                self.read_rtcp(tagged.now, packet.as_ref());
            }
        }
        self.belt.read.push_back(tagged);
        Ok(())
    }

    fn handle_write(&mut self, tagged: TaggedPacket) -> Result<(), Self::Error> {
        match &tagged.message.packet {
            Packet::Rtp(packet) => {
                if let Some(section) = self.shared.our_section(packet.header.ssrc) {
                    let mut state = self.shared.state();
                    let stats = &mut state.stats.sections[section.index()];
                    if tagged.message.has(&Attribute::Retransmission) {
                        stats.retransmitted += 1;
                    } else if self.shared.ours[section.index()].rtx == packet.header.ssrc {
                        stats.padding_sent += 1;
                    } else {
                        stats.packets_sent += 1;
                        stats.bytes_sent += packet.payload.len() as u64;
                    }
                }
            }
            Packet::Rtcp(packets) => {
                for report in
                    packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<SenderReport>())
                {
                    if self.reports.len() == REPORTS_KEPT {
                        self.reports.pop_front();
                    }
                    self.reports.push_back(((report.ntp_time >> 16) as u32, tagged.now));
                }
            }
            _ => {}
        }
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

impl Interceptor for WireTap {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}

    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}

    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use snug_media_proto::section::Section;

    use super::super::testing::tagged;
    use super::*;
    use crate::event::{PeerEvent, peer_channels};
    use crate::shared::LocalStream;

    fn streams() -> [LocalStream; 4] {
        [1, 2, 3, 4].map(|n| LocalStream::new(n, n + 10))
    }

    #[tokio::test]
    async fn a_key_frame_request_is_told_once_within_fifty_milliseconds() {
        let (events, mut control, _media) = peer_channels();
        let mut tap = WireTap::new(Shared::new(events, streams()));
        let start = Instant::now();
        for at in [0, 10, 60] {
            let pli = PictureLossIndication { sender_ssrc: 7, media_ssrc: 2 };
            let now = start + Duration::from_millis(at);
            tap.handle_read(tagged(now, Packet::Rtcp(vec![Box::new(pli)]))).unwrap();
        }
        assert_eq!(tap.shared.state().stats.sections[Section::Camera.index()].plis_received, 3);
        drop(tap);
        for _ in 0..2 {
            assert_eq!(control.next().await, Some(PeerEvent::KeyFrameWanted { section: Section::Camera }));
        }
        assert_eq!(control.next().await, None);
    }

    #[test]
    fn the_round_trip_is_what_the_other_side_did_not_hold_the_report() {
        let mut tap = WireTap::new(Shared::new(peer_channels().0, streams()));
        let start = Instant::now();
        let sent = SenderReport { ssrc: 1, ntp_time: 0x0001_2345_6789_0000, ..Default::default() };
        tap.handle_write(tagged(start, Packet::Rtcp(vec![Box::new(sent)]))).unwrap();
        let report = ReceptionReport {
            ssrc: 1,
            fraction_lost: 64,
            last_sender_report: 0x2345_6789,
            delay: 65_536 / 2,
            ..Default::default()
        };
        let answer = ReceiverReport { ssrc: 7, reports: vec![report], ..Default::default() };
        tap.handle_read(tagged(start + Duration::from_millis(580), Packet::Rtcp(vec![Box::new(answer)])))
            .unwrap();
        let state = tap.shared.state();
        assert_eq!(state.stats.rtt, Duration::from_millis(80));
        assert_eq!(state.stats.sections[0].loss_reported, 0.25);
    }
}
