//! Reads what the other side reports about the arrival of each packet
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::ops::Range;
use std::time::Duration;

use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
};
use snug_media_proto::estimate::PacketReport;

/// A unit of the reference time.
const TICK_US: i64 = 64_000;
/// Numbers further back than this are of another life of the connection.
const FURTHEST: u64 = 0x4000;
/// The latest reference time: a clock that lies for ever stops here, with room for its microseconds.
const LAST_TICK: i64 = 1 << 46;

/// Makes the 24-bit reference time endless.
#[derive(Default)]
pub(super) struct Arrivals {
    last: Option<i64>,
}

impl Arrivals {
    /// The reports of one feedback in the order of sending. `next` is the number that the next packet gets, of which
    /// the wire carries the low 16 bits; `awaited` names those of a range of numbers whose fate is not known.
    ///
    /// Two bytes can call 8,191 packets lost. Only those that are awaited are reported, and none is awaited once it was
    /// reported: however often a feedback repeats itself, the work is bounded by its size and by what was sent.
    pub(super) fn read<I: Iterator<Item = u64>>(
        &mut self,
        feedback: &TransportLayerCc,
        next: u64,
        awaited: impl Fn(Range<u64>) -> I,
    ) -> Vec<PacketReport> {
        let mut arrival = self.reference(feedback.reference_time) * TICK_US;
        let mut deltas = feedback.recv_deltas.iter();
        let mut reports = Vec::new();
        let behind = u64::from((next as u16).wrapping_sub(feedback.base_sequence_number));
        // What the first chunks are about may lie before the first packet of all.
        let mut at = next.wrapping_sub(behind) as i64;
        let known = next.saturating_sub(FURTHEST - 1)..next;
        let mut left = feedback.packet_status_count;
        for (symbol, length) in feedback.packet_chunks.iter().flat_map(runs) {
            let length = length.min(left);
            left -= length;
            let numbers = at..at.saturating_add(length.into());
            at = numbers.end;
            match symbol {
                SymbolTypeTcc::PacketNotReceived => {
                    let clipped = clip(&numbers, &known);
                    reports.extend(awaited(clipped).map(|id| PacketReport { id, arrival: None }));
                }
                // Arrived at a time that is not known: neither lost nor of use.
                SymbolTypeTcc::PacketReceivedWithoutDelta => {}
                SymbolTypeTcc::PacketReceivedSmallDelta | SymbolTypeTcc::PacketReceivedLargeDelta => {
                    for (number, delta) in numbers.zip(deltas.by_ref()) {
                        arrival = arrival.saturating_add(delta.delta);
                        if let (Ok(id), Ok(arrival)) = (u64::try_from(number), u64::try_from(arrival))
                            && known.contains(&id)
                        {
                            reports.push(PacketReport { id, arrival: Some(Duration::from_micros(arrival)) });
                        }
                    }
                }
            }
        }
        reports
    }

    /// Ticks since some instant of the other side, always well above zero.
    fn reference(&mut self, ticks: u32) -> i64 {
        let ticks = ticks & 0xff_ffff;
        let last = self.last.unwrap_or((1 << 24) + i64::from(ticks));
        let step = (ticks.wrapping_sub(last as u32) << 8) as i32 >> 8;
        let reference = (last + i64::from(step)).clamp(1, LAST_TICK);
        self.last = Some(reference);
        reference
    }
}

/// What a chunk says about so many packets in a row.
fn runs(chunk: &PacketStatusChunk) -> impl Iterator<Item = (SymbolTypeTcc, u16)> {
    let (run, list) = match chunk {
        PacketStatusChunk::RunLengthChunk(run) => {
            (Some((run.packet_status_symbol, run.run_length)), [].as_slice())
        }
        PacketStatusChunk::StatusVectorChunk(vector) => (None, vector.symbol_list.as_slice()),
    };
    run.into_iter().chain(list.iter().map(|&symbol| (symbol, 1)))
}

/// The part of `numbers` within `known`, never one that ends before it begins.
fn clip(numbers: &Range<i64>, known: &Range<u64>) -> Range<u64> {
    let within = |number: i64| u64::try_from(number).unwrap_or(0).clamp(known.start, known.end);
    within(numbers.start)..within(numbers.end)
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
        let reports =
            arrivals
                .read(&feedback(65_534, 0xff_ffff, &[(Came, 2), (Lost, 1)], &[0, 1_000]), next, |ids| ids);
        let ids: Vec<u64> = reports.iter().map(|report| report.id).collect();
        assert_eq!(ids, [next - 4, next - 3, next - 2]);
        assert_eq!(reports[1].arrival.unwrap() - reports[0].arrival.unwrap(), Duration::from_millis(1));
        assert_eq!(reports[2].arrival, None);
        let after = arrivals.read(&feedback(1, 0, &[(Came, 1)], &[0]), next, |ids| ids);
        assert_eq!(after[0].id, next - 1);
        assert_eq!(after[0].arrival.unwrap() - reports[0].arrival.unwrap(), Duration::from_millis(64));
    }

    #[test]
    fn reports_about_packets_that_were_never_sent_are_left_out() {
        let mut arrivals = Arrivals::default();
        let lies = feedback(9, 5, &[(SymbolTypeTcc::PacketReceivedSmallDelta, 8_191)], &[-70_000; 8_191]);
        let reports = arrivals.read(&lies, 12, |ids| ids);
        assert_eq!(reports.iter().map(|report| report.id).collect::<Vec<_>>(), [9, 10, 11]);
        assert!(arrivals.read(&lies, 3, |ids| ids).is_empty());
        assert!(arrivals.read(&feedback(0, 0, &[], &[]), 0, |ids| ids).is_empty());
    }

    #[test]
    fn only_awaited_packets_are_reported_lost_however_many_a_feedback_names() {
        let mut arrivals = Arrivals::default();
        let lost = feedback(0, 0, &[(SymbolTypeTcc::PacketNotReceived, 8_191); 8], &[]);
        let next = 5 * 0x1_0000 + 0xffff;
        let asked = std::cell::RefCell::new(Vec::new());
        let awaited = |ids: Range<u64>| {
            asked.borrow_mut().push(ids.clone());
            [next - 12, next - 9].into_iter().filter(move |id| ids.contains(id))
        };
        let reports = arrivals.read(&lost, next, awaited);
        assert_eq!(reports.iter().map(|report| report.id).collect::<Vec<_>>(), [next - 12, next - 9]);
        let asked = asked.into_inner();
        assert_eq!(asked.len(), 8, "once for each chunk, never for each packet");
        assert!(asked.iter().all(|ids| next - ids.start < FURTHEST && ids.end <= next), "{asked:?}");
    }

    #[test]
    fn a_clock_that_runs_ahead_for_ever_stops_before_it_overflows() {
        use SymbolTypeTcc::PacketReceivedLargeDelta as Came;
        let mut arrivals = Arrivals { last: Some(i64::MAX / TICK_US) };
        for reference in [0, 0x7f_ffff, 0xff_fffe, 0x7f_fffd] {
            let reports = arrivals.read(&feedback(0, reference, &[(Came, 1)], &[i64::MAX]), 1, |ids| ids);
            assert!(reports[0].arrival.is_some());
            assert!(arrivals.last.is_some_and(|last| last <= LAST_TICK));
        }
    }
}
