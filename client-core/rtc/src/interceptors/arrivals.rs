//! Reads what the other side reports about the arrival of each packet
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::time::Duration;

use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
};
use snug_media_proto::estimate::PacketReport;

/// A unit of the reference time.
const TICK_US: i64 = 64_000;
/// Numbers further back than this are of another life of the connection.
const FURTHEST: u16 = 0x4000;

/// Makes the 24-bit reference time endless.
#[derive(Default)]
pub(super) struct Arrivals {
    last: Option<i64>,
}

impl Arrivals {
    /// The reports of one feedback in the order of sending. `next` is the number that the next packet gets, of which
    /// the wire carries the low 16 bits.
    pub(super) fn read(&mut self, feedback: &TransportLayerCc, next: u64) -> Vec<PacketReport> {
        let mut arrival = self.reference(feedback.reference_time) * TICK_US;
        let mut deltas = feedback.recv_deltas.iter();
        let behind = (next as u16).wrapping_sub(feedback.base_sequence_number);
        let symbols = feedback.packet_chunks.iter().flat_map(Symbols::of);
        let mut reports = Vec::new();
        for (behind, symbol) in (0..=behind).rev().zip(symbols).take(feedback.packet_status_count.into()) {
            let came = match symbol {
                SymbolTypeTcc::PacketNotReceived => Some(None),
                // Arrived at a time that is not known: neither lost nor of use.
                SymbolTypeTcc::PacketReceivedWithoutDelta => None,
                SymbolTypeTcc::PacketReceivedSmallDelta | SymbolTypeTcc::PacketReceivedLargeDelta => {
                    deltas.next().and_then(|delta| {
                        arrival += delta.delta;
                        u64::try_from(arrival).ok().map(|arrival| Some(Duration::from_micros(arrival)))
                    })
                }
            };
            let id = next.checked_sub(behind.into()).filter(|_| (1..FURTHEST).contains(&behind));
            if let (Some(arrival), Some(id)) = (came, id) {
                reports.push(PacketReport { id, arrival });
            }
        }
        reports
    }

    /// Ticks since some instant of the other side, always well above zero.
    fn reference(&mut self, ticks: u32) -> i64 {
        let ticks = ticks & 0xff_ffff;
        let last = self.last.unwrap_or((1 << 24) + i64::from(ticks));
        let step = (ticks.wrapping_sub(last as u32) << 8) as i32 >> 8;
        let reference = (last + i64::from(step)).max(1);
        self.last = Some(reference);
        reference
    }
}

/// What a chunk says about one packet after the other.
enum Symbols<'a> {
    Run(SymbolTypeTcc, u16),
    List(std::slice::Iter<'a, SymbolTypeTcc>),
}

impl<'a> Symbols<'a> {
    fn of(chunk: &'a PacketStatusChunk) -> Self {
        match chunk {
            PacketStatusChunk::RunLengthChunk(run) => Self::Run(run.packet_status_symbol, run.run_length),
            PacketStatusChunk::StatusVectorChunk(vector) => Self::List(vector.symbol_list.iter()),
        }
    }
}

impl Iterator for Symbols<'_> {
    type Item = SymbolTypeTcc;

    fn next(&mut self) -> Option<SymbolTypeTcc> {
        match self {
            Self::Run(symbol, left) => {
                *left = left.checked_sub(1)?;
                Some(*symbol)
            }
            Self::List(list) => list.next().copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::{RecvDelta, RunLengthChunk};

    use super::*;

    fn feedback(
        base: u16,
        reference: u32,
        runs: &[(SymbolTypeTcc, u16)],
        deltas: &[i64],
    ) -> TransportLayerCc {
        let run = |&(packet_status_symbol, run_length)| {
            PacketStatusChunk::RunLengthChunk(RunLengthChunk {
                packet_status_symbol,
                run_length,
                ..Default::default()
            })
        };
        TransportLayerCc {
            base_sequence_number: base,
            reference_time: reference,
            packet_status_count: runs.iter().map(|(_, run)| run).sum(),
            packet_chunks: runs.iter().map(run).collect(),
            recv_deltas: deltas.iter().map(|&delta| RecvDelta { delta, ..Default::default() }).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn packets_are_named_over_a_wrap_of_their_numbers_and_of_the_clock() {
        use SymbolTypeTcc::{PacketNotReceived as Lost, PacketReceivedSmallDelta as Came};
        let mut arrivals = Arrivals::default();
        let next = (3 << 16) + 2;
        let reports = arrivals.read(&feedback(65_534, 0xff_ffff, &[(Came, 2), (Lost, 1)], &[0, 1_000]), next);
        let ids: Vec<u64> = reports.iter().map(|report| report.id).collect();
        assert_eq!(ids, [next - 4, next - 3, next - 2]);
        assert_eq!(reports[1].arrival.unwrap() - reports[0].arrival.unwrap(), Duration::from_millis(1));
        assert_eq!(reports[2].arrival, None);
        let after = arrivals.read(&feedback(1, 0, &[(Came, 1)], &[0]), next);
        assert_eq!(after[0].id, next - 1);
        assert_eq!(after[0].arrival.unwrap() - reports[0].arrival.unwrap(), Duration::from_millis(64));
    }

    #[test]
    fn reports_about_packets_that_were_never_sent_are_left_out() {
        let mut arrivals = Arrivals::default();
        let lies = feedback(9, 5, &[(SymbolTypeTcc::PacketReceivedSmallDelta, 8_191)], &[-70_000; 8_191]);
        let reports = arrivals.read(&lies, 12);
        assert_eq!(reports.iter().map(|report| report.id).collect::<Vec<_>>(), [9, 10, 11]);
        assert!(arrivals.read(&lies, 3).is_empty());
        assert!(arrivals.read(&feedback(0, 0, &[], &[]), 0).is_empty());
    }
}
