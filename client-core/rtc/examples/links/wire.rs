//! A network on the loopback interface that loses, delays and holds back what passes: each candidate
//! is handed on with the address of a socket in here, which forwards what it receives from a socket
//! that stands for the sender.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::conditions::{Conditions, Direction};

/// A packet on its way: when it arrives, from which socket, where to.
type Passing = (Instant, Vec<u8>, Arc<UdpSocket>, SocketAddr);

/// One direction, which any number of connections may share. Clones are the same line.
#[derive(Clone)]
pub struct Line {
    direction: Arc<Mutex<Direction>>,
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
        Self { direction: Arc::new(Mutex::new(Direction::new(seed, Instant::now()))), passing }
    }

    /// From here on.
    pub fn set(&self, conditions: Conditions) {
        self.direction.lock().expect("nothing panics with it").conditions = conditions;
    }

    fn carry(&self, packet: &[u8], from: Arc<UdpSocket>, to: SocketAddr) {
        let now = Instant::now();
        let arrival = self.direction.lock().expect("nothing panics with it").carry(packet.len(), now);
        if let Some(arrival) = arrival {
            let _ = self.passing.send((arrival, packet.to_vec(), from, to));
        }
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
