//! What the relay's own TURN server does, in figures. The server counts; here its counts are copied at each scrape.
//! Never holds a count back: after the server has failed and started anew they begin again, as Prometheus expects of a restart.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use snug_turn_proto::{DropReason, Refusal, Transport};

use super::Cause;
use crate::turn::TurnFigures;

/// Copies of the server's figures.
#[derive(Clone, Default)]
pub(super) struct Relayed {
    up: Gauge,
    allocations: Family<By, Gauge>,
    allocated: Counter,
    relay_sockets: Gauge,
    streams: Gauge,
    streams_refused: Counter,
    bytes: Family<Way, Counter>,
    packets: Family<Way, Counter>,
    refusals: Family<Cause, Counter>,
    dropped: Family<Cause, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct By {
    transport: &'static str,
}

/// Which way media went. What goes from one client to another in process is in all three.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Way {
    way: &'static str,
}

impl Relayed {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("up", "1 while the STUN and TURN server runs", self.up.clone());
        registry.register("allocations", "Allocations by the client's transport", self.allocations.clone());
        registry.register("allocated", "Allocations that were made", self.allocated.clone());
        registry.register("relay_sockets", "Relayed ports that are open", self.relay_sockets.clone());
        registry.register("streams", "TCP and TLS connections of clients", self.streams.clone());
        registry.register(
            "streams_refused",
            "TCP and TLS connections not taken",
            self.streams_refused.clone(),
        );
        registry.register("bytes", "Payload relayed, by its way", self.bytes.clone());
        registry.register("packets", "Packets relayed, by their way", self.packets.clone());
        registry.register("refusals", "Requests refused", self.refusals.clone());
        registry.register("dropped", "Packets that went nowhere", self.dropped.clone());
    }

    /// Takes over the figures of this moment.
    pub(super) fn take(&self, figures: Option<TurnFigures>) {
        self.up.set(i64::from(figures.is_some()));
        let TurnFigures { server, lost, stale, streams, refused_streams } = figures.unwrap_or_default();
        let transports = Transport::ALL.into_iter().zip(server.allocations_by);
        for (transport, count) in transports {
            let transport = match transport {
                Transport::Udp => "udp",
                Transport::Tcp => "tcp",
                Transport::Tls => "tls",
            };
            self.allocations.get_or_create(&By { transport }).set(i64::from(count));
        }
        set(&self.allocated, server.allocated);
        self.relay_sockets.set(i64::from(server.relay_sockets));
        self.streams.set(streams as i64);
        set(&self.streams_refused, refused_streams);
        for (way, bytes, packets) in [
            ("from_clients", server.bytes_from_clients, server.packets_from_clients),
            ("to_clients", server.bytes_to_clients, server.packets_to_clients),
            ("in_process", server.bytes_in_process, server.packets_in_process),
        ] {
            set(&self.bytes.get_or_create(&Way { way }), bytes);
            set(&self.packets.get_or_create(&Way { way }), packets);
        }
        for (refusal, count) in Refusal::ALL.into_iter().zip(server.refusals) {
            set(&self.refusals.get_or_create(&Cause { reason: refusal.code() }), count);
        }
        // The shell's own losses stand beside those that the rules decide on.
        let shell = [("not_sent", lost), ("slow_reader", stale)];
        let rules = DropReason::ALL.into_iter().map(DropReason::code).zip(server.dropped);
        for (reason, count) in rules.chain(shell) {
            set(&self.dropped.get_or_create(&Cause { reason }), count);
        }
    }
}

fn set(counter: &Counter<u64, AtomicU64>, count: u64) {
    counter.inner().store(count, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;
    use snug_turn_proto::TurnStats;

    use super::Relayed;
    use crate::turn::TurnFigures;

    fn scrape(figures: Option<TurnFigures>) -> String {
        let (relayed, mut registry) = (Relayed::default(), Registry::with_prefix("snug"));
        relayed.register(registry.sub_registry_with_prefix("turn"));
        relayed.take(figures);
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes all");
        text
    }

    #[test]
    fn every_figure_has_its_line() {
        let mut server = TurnStats {
            allocations: 6,
            allocations_by: [3, 2, 1],
            relay_sockets: 4,
            allocated: 9,
            bytes_from_clients: 1200,
            packets_in_process: 7,
            ..TurnStats::default()
        };
        server.refusals[snug_turn_proto::Refusal::Quota as usize] = 5;
        server.dropped[snug_turn_proto::DropReason::ForbiddenPeer as usize] = 8;
        let text = scrape(Some(TurnFigures { server, lost: 10, stale: 11, streams: 3, refused_streams: 12 }));
        for line in [
            "snug_turn_up 1",
            "snug_turn_allocations{transport=\"udp\"} 3",
            "snug_turn_allocations{transport=\"tls\"} 1",
            "snug_turn_allocated_total 9",
            "snug_turn_relay_sockets 4",
            "snug_turn_streams 3",
            "snug_turn_streams_refused_total 12",
            "snug_turn_bytes_total{way=\"from_clients\"} 1200",
            "snug_turn_packets_total{way=\"in_process\"} 7",
            "snug_turn_packets_total{way=\"to_clients\"} 0",
            "snug_turn_refusals_total{reason=\"quota\"} 5",
            "snug_turn_dropped_total{reason=\"forbidden_peer\"} 8",
            "snug_turn_dropped_total{reason=\"not_sent\"} 10",
            "snug_turn_dropped_total{reason=\"slow_reader\"} 11",
        ] {
            assert!(text.lines().any(|own| own == line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn without_a_server_everything_is_nothing() {
        let text = scrape(None);
        assert!(
            text.contains("snug_turn_up 0") && text.contains("snug_turn_allocations{transport=\"udp\"} 0")
        );
    }
}
