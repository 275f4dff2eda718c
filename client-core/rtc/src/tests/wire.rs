//! A network on the loopback interface that loses, delays and holds back what passes: each candidate is handed on with the
//! address of a socket in here, which forwards what it receives from a socket that stands for the sender.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// What a direction does to packets.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// The part that is lost, 0 to 1.
    pub loss: f64,
    /// How long a packet is under way at least.
    pub delay: Duration,
    /// Bits a second, IP headers included; 0 is no limit.
    pub bps: u64,
    /// What would wait for longer is dropped.
    pub queue: Duration,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { loss: 0.0, delay: Duration::ZERO, bps: 0, queue: Duration::from_secs(1) }
    }
}

struct State {
    conditions: Conditions,
    busy_until: Instant,
    random: u64,
}

impl State {
    /// SplitMix64, in [0, 1).
    fn roll(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A packet on its way: when it arrives, from which socket, where to.
type Passing = (Instant, Vec<u8>, Arc<UdpSocket>, SocketAddr);

/// One direction, which any number of connections may share. Clones are the same line.
#[derive(Clone)]
pub struct Line {
    state: Arc<Mutex<State>>,
    passing: mpsc::UnboundedSender<Passing>,
}

impl Line {
    pub fn new(seed: u64) -> Self {
        let (passing, mut packets) = mpsc::unbounded_channel::<Passing>();
        tokio::spawn(async move {
            while let Some((arrival, packet, from, to)) = packets.recv().await {
                tokio::time::sleep_until(arrival.into()).await;
                let _ = from.try_send_to(&packet, to);
            }
        });
        let conditions = Conditions::default();
        let state = State { conditions, busy_until: Instant::now(), random: seed };
        Self { state: Arc::new(Mutex::new(state)), passing }
    }

    /// From here on.
    pub fn set(&self, conditions: Conditions) {
        self.state.lock().expect("nothing panics with it").conditions = conditions;
    }

    fn carry(&self, packet: &[u8], from: Arc<UdpSocket>, to: SocketAddr) {
        let mut state = self.state.lock().expect("nothing panics with it");
        let Conditions { loss, delay, bps, queue } = state.conditions;
        if state.roll() < loss {
            return;
        }
        let now = Instant::now();
        let begins = state.busy_until.max(now);
        let bits = (packet.len() as u64 + 28) * 8;
        match (bits * 1_000_000_000).checked_div(bps) {
            Some(_) if begins - now > queue => return,
            Some(nanos) => state.busy_until = begins + Duration::from_nanos(nanos),
            None => state.busy_until = now,
        }
        let _ = self.passing.send((state.busy_until + delay, packet.to_vec(), from, to));
    }
}

/// The sockets that stand for the real ones.
#[derive(Clone, Default)]
pub struct Wire(Arc<tokio::sync::Mutex<BTreeMap<SocketAddr, Arc<UdpSocket>>>>);

impl Wire {
    /// The candidate with the address of a socket in here. What it gets passes `line`.
    pub async fn candidate(&self, candidate: &str, line: &Line) -> Option<String> {
        let mut fields: Vec<String> = candidate.split(' ').map(str::to_owned).collect();
        let real = format!("{}:{}", fields.get(4)?, fields.get(5)?).parse().ok()?;
        let inside = self.inside(real, line).await?;
        fields[4] = inside.ip().to_string();
        fields[5] = inside.port().to_string();
        Some(fields.join(" "))
    }

    async fn inside(&self, real: SocketAddr, line: &Line) -> Option<SocketAddr> {
        let mut sockets = self.0.lock().await;
        if let Some(socket) = sockets.get(&real) {
            return socket.local_addr().ok();
        }
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?);
        sockets.insert(real, Arc::clone(&socket));
        let (wire, line) = (self.clone(), line.clone());
        let receiving = Arc::clone(&socket);
        tokio::spawn(async move {
            let mut buffer = [0; 2_048];
            while let Ok((length, sender)) = receiving.recv_from(&mut buffer).await {
                // Who sends before its candidate came this way is not known yet; checks are repeated.
                let from = wire.0.lock().await.get(&sender).cloned();
                if let Some(from) = from {
                    line.carry(&buffer[..length], from, real);
                }
            }
        });
        socket.local_addr().ok()
    }
}
