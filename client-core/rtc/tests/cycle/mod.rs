//! Links from their offer to their end, many after one another: for the test and the example that look at what they leave behind.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use snug_media_proto::section::Section;
use snug_rtc::{EventReceiver, Factory, FactoryConfig, OutgoingRtp, Peer, PeerEvent, Rtp, peer_channels};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Cycles at a time; each waits for timers most of its time.
pub(crate) const AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(20);

/// Connects two sides so many times, lets them hear each other and closes them.
pub(crate) async fn run(cycles: usize) -> Result<()> {
    let mut running = JoinSet::new();
    for _ in 0..cycles {
        if running.len() == AT_ONCE
            && let Some(ended) = running.join_next().await
        {
            ended??;
        }
        running.spawn(async { timeout(PATIENCE, cycle()).await.map_err(|_| "a link did not come up")? });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

struct Side {
    peer: Arc<Peer>,
    events: EventReceiver,
    media: mpsc::Receiver<Rtp>,
}

impl Side {
    async fn new() -> Result<Self> {
        let (sender, events, media) = peer_channels();
        let bind = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let config = FactoryConfig { include_loopback: true, bind, ..FactoryConfig::default() };
        let peer = Peer::new(&Factory::new(config), &[], sender).await?;
        Ok(Self { peer: Arc::new(peer), events, media })
    }
}

/// A link from its offer to its end.
async fn cycle() -> Result<()> {
    let (a, b) = (Side::new().await?, Side::new().await?);
    let offer = a.peer.create_offer(false).await?;
    let answer = b.peer.accept_offer(&offer, false).await?;
    a.peer.accept_answer(&answer).await?;
    let (from_a, from_b) = (forward(a.events, &b.peer), forward(b.events, &a.peer));
    let mut ticks = interval(Duration::from_millis(20));
    let (mut a_media, mut b_media) = (a.media, b.media);
    let (mut a_hears, mut b_hears) = (false, false);
    let mut timestamp = 0u32;
    while !a_hears || !b_hears {
        tokio::select! {
            _ = ticks.tick() => {
                timestamp = timestamp.wrapping_add(960);
                for peer in [&a.peer, &b.peer] {
                    let payload = Bytes::from_static(&[0xf8, 0xff, 0xfe]);
                    peer.send(Section::Microphone, OutgoingRtp { payload, timestamp, marker: false, red: false });
                }
            }
            heard = a_media.recv() => a_hears |= heard.is_some(),
            heard = b_media.recv() => b_hears |= heard.is_some(),
        }
    }
    a.peer.close().await;
    b.peer.close().await;
    from_a.abort();
    from_b.abort();
    Ok(())
}

/// Hands the candidates of one side to the other.
fn forward(mut events: EventReceiver, to: &Arc<Peer>) -> tokio::task::JoinHandle<()> {
    let to = Arc::downgrade(to);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let (PeerEvent::Candidate { candidate, mid, mline }, Some(to)) = (event, to.upgrade()) {
                // One that does not fit is of no use; the others are enough.
                let _ = to.add_candidate(&candidate, mid, mline).await;
            }
        }
    })
}

/// Memory of this process in MiB.
pub(crate) fn resident() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no memory is told")?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes / 1024.0)
}
