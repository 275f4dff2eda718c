//! What links do on narrow and lossy paths: two or more real connections in this process, a wire between them, in real time.
//! It makes no calls and needs no relay. `cargo run --release -p snug-rtc --example links` prints a Markdown table.

#![allow(clippy::print_stdout)] // The table is what it is for.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use snug_media_proto::section::Section;
use snug_media_proto::uplink::{JointUplink, LinkSample};
use snug_rtc::{
    EventReceiver, Factory, FactoryConfig, Flow, OutgoingRtp, Peer, PeerEvent, Rtp, peer_channels,
};
use tokio::sync::mpsc;

#[path = "../src/tests/conditions.rs"]
mod conditions;
#[path = "../src/tests/traffic.rs"]
mod traffic;
#[path = "links/wire.rs"]
mod wire;

use conditions::Conditions;
use traffic::Traffic;
use wire::{Line, Wire};

const SECOND: Duration = Duration::from_secs(1);
const SEED: u64 = 42;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    println!(
        "Wire in both directions 10 ms unless told otherwise; seed {SEED}; both ends, their wire and the traffic in one process.\n"
    );
    println!("| case | result | CPU s per minute |");
    println!("|---|---|---|");
    for case in [lossy().await?, steps().await?, shared().await?] {
        println!("{case}");
    }
    Ok(())
}

/// 5 % loss and 100 ms of round trip.
async fn lossy() -> Result<String, Failure> {
    let (there, back) = (Line::new(SEED), Line::new(!SEED));
    let mut link = Link::connect(&there, &back).await?;
    for line in [&there, &back] {
        line.set(Conditions { loss: 0.05, delay: Duration::from_millis(50), ..Conditions::default() });
    }
    let cpu = Cpu::start();
    let sender = Arc::clone(&link.from);
    // Numbered packets, few enough that none is held back; the last ones only show that those before them were lost.
    let (packets, tail) = (1_000_u32, 60);
    let sending = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(8));
        for number in 0..packets + tail {
            ticks.tick().await;
            // Every packet is a key frame by itself.
            let mut payload = vec![0; 300];
            payload[0] = 0x10;
            payload[2..6].copy_from_slice(&number.to_be_bytes());
            let timestamp = number * 720;
            let packet = OutgoingRtp { payload: Bytes::from(payload), timestamp, marker: true, red: false };
            sender.send(Section::Camera, packet);
        }
    });
    let mut times = vec![0_u32; packets as usize];
    let mut media = link.media.take().ok_or("media was taken")?;
    while let Ok(Some(Rtp { packet, .. })) = tokio::time::timeout(2 * SECOND, media.recv()).await {
        let number = packet.payload.get(2..6).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        if let Some(times) = number.and_then(|number| times.get_mut(number as usize)) {
            *times += 1;
        }
    }
    sending.await?;
    let received = link.to.stats().await.sections[Section::Camera.index()];
    let sent = link.from.stats().await.sections[Section::Camera.index()];
    let missing = times.iter().filter(|times| **times == 0).count();
    let twice = times.iter().filter(|times| **times > 1).count();
    Ok(format!(
        "| 5 % loss, 100 ms round trip, {packets} packets in 8 s | {missing} lost for good, {twice} delivered twice; {} recovered with {} retransmissions | {} |",
        received.recovered,
        sent.retransmitted,
        cpu.per_minute(),
    ))
}

/// 3 → 0.8 → 3 Mbit/s under one link.
async fn steps() -> Result<String, Failure> {
    let (there, back) = (Line::new(SEED), Line::new(!SEED));
    let mut link = Link::connect(&there, &back).await?;
    let narrow = |bps| Conditions { bps, delay: Duration::from_millis(10), ..Conditions::default() };
    back.set(narrow(0));
    there.set(narrow(3_000_000));
    let cpu = Cpu::start();
    let traffic = Traffic::start(
        &link.from,
        link.media.take().ok_or("media was taken")?,
        1_500_000,
        Arc::new(AtomicU64::new(u64::MAX)),
    );
    let (cut, risen, end) = (8 * SECOND, 16 * SECOND, 28 * SECOND);
    tokio::time::sleep(cut).await;
    there.set(narrow(800_000));
    tokio::time::sleep(risen - cut).await;
    there.set(narrow(3_000_000));
    tokio::time::sleep(end - risen).await;
    let record = traffic.record.lock().map_err(|_| "a task panicked")?;
    if std::env::var_os("SNUG_LINKS_TRACE").is_some() {
        for (at, estimate, rate) in &record.estimates {
            eprintln!(
                "{:>6.1} s  estimate {:>5}  pictures {:>5} kbit/s",
                at.as_secs_f64(),
                estimate / 1_000,
                rate / 1_000
            );
        }
    }
    let before = record.first(Duration::ZERO, |rate| rate >= 1_400_000);
    let down = record.first(cut, |rate| rate <= 800_000);
    let up = record.first(risen, |rate| rate >= 1_400_000);
    let falling = record.sound_delays(cut, cut + 2 * SECOND);
    let settled = record.sound_delays(cut + 2 * SECOND, risen);
    let rising = record.sound_delays(risen, end);
    Ok(format!(
        "| 3 → 0.8 → 3 Mbit/s, one link, pictures up to 1.5 Mbit/s | start: 1.4 Mbit/s after {}; cut: below 0.8 after {}, sound late by {} at most, then by {} (half of it {}); rise: 1.4 after {}, sound late by {} at most; {} frames held back | {} |",
        seconds(before),
        seconds(down),
        ms(falling.last()),
        ms(settled.last()),
        ms(settled.get(settled.len() / 2)),
        seconds(up),
        ms(rising.last()),
        record.held_back,
        cpu.per_minute(),
    ))
}

/// Four links out of one uplink of 3 Mbit/s.
async fn shared() -> Result<String, Failure> {
    let (there, back) = (Line::new(SEED), Line::new(!SEED));
    there.set(Conditions { delay: Duration::from_millis(10), ..Conditions::default() });
    back.set(Conditions { delay: Duration::from_millis(10), ..Conditions::default() });
    let mut links = Vec::new();
    for _ in 0..4 {
        links.push(Link::connect(&there, &back).await?);
    }
    there.set(Conditions { bps: 3_000_000, delay: Duration::from_millis(10), ..Conditions::default() });
    let cpu = Cpu::start();
    let share = Arc::new(AtomicU64::new(u64::MAX));
    let mut traffic = Vec::new();
    for link in &mut links {
        let media = link.media.take().ok_or("media was taken")?;
        traffic.push(Traffic::start(&link.from, media, 1_500_000, Arc::clone(&share)));
    }
    let mut joint = JointUplink::default();
    let begin = Instant::now();
    let (settled, end) = (6 * SECOND, 16 * SECOND);
    let mut at_six = 0;
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    while begin.elapsed() < end {
        ticks.tick().await;
        if begin.elapsed() < settled {
            at_six = received(&traffic);
        }
        let samples: Vec<LinkSample> = links
            .iter()
            .map(|link| link.from.estimate())
            .map(|estimate| LinkSample {
                estimate: estimate.bitrate_bps,
                acked_bps: estimate.arriving_bps,
                queue_delay: estimate.queue_delay,
            })
            .collect();
        let limit = joint.update(Instant::now(), &samples);
        let part = limit.map_or(u64::MAX, |limit| limit / 4);
        share.store(part, Ordering::Relaxed);
        links.iter().for_each(|link| link.from.set_useful_rate(part.min(1_950_000)));
    }
    let pictures = (received(&traffic) - at_six) as f64 * 8.0 / (end - settled).as_secs_f64() / 1e6;
    let mut delays = Vec::new();
    let mut first = Vec::new();
    for traffic in &traffic {
        let record = traffic.record.lock().map_err(|_| "a task panicked")?;
        delays.extend(record.sound_delays(settled, end));
        first.extend(record.sound_delays(Duration::ZERO, settled));
    }
    delays.sort_unstable();
    first.sort_unstable();
    Ok(format!(
        "| four links on one uplink of 3 Mbit/s, pictures up to 1.5 Mbit/s each | {pictures:.2} Mbit/s of pictures arrive; sound late by {} (19 of 20 packets) and {} at most, in the first six seconds {} | {} |",
        ms(delays.get(delays.len() * 19 / 20)),
        ms(delays.last()),
        ms(first.last()),
        cpu.per_minute(),
    ))
}

fn received(traffic: &[Traffic]) -> usize {
    traffic.iter().filter_map(|traffic| traffic.record.lock().ok()).map(|record| record.picture_bytes).sum()
}

/// A connection whose first side sends.
struct Link {
    from: Arc<Peer>,
    to: Arc<Peer>,
    media: Option<mpsc::Receiver<Rtp>>,
}

impl Link {
    async fn connect(there: &Line, back: &Line) -> Result<Self, Failure> {
        let wire = Wire::default();
        let factory = Factory::new(FactoryConfig {
            include_loopback: true,
            bind: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            ..FactoryConfig::default()
        });
        let (events, from_events, _) = peer_channels();
        let from = Arc::new(Peer::new(&factory, &[], events).await?);
        let (events, to_events, media) = peer_channels();
        let to = Arc::new(Peer::new(&factory, &[], events).await?);
        let offer = from.create_offer(false).await?;
        let answer = to.accept_offer(&offer, false).await?;
        from.accept_answer(&answer).await?;
        let (opened, mut open) = mpsc::channel(2);
        let ends = [(from_events, &to, back), (to_events, &from, there)];
        for (events, peer, line) in ends {
            tokio::spawn(trickle(events, Arc::clone(peer), wire.clone(), line.clone(), opened.clone()));
        }
        for _ in 0..2 {
            tokio::time::timeout(10 * SECOND, open.recv()).await?.ok_or("the connection ended")?;
        }
        Ok(Self { from, to, media: Some(media) })
    }
}

async fn trickle(mut events: EventReceiver, to: Arc<Peer>, wire: Wire, line: Line, opened: mpsc::Sender<()>) {
    while let Some(event) = events.next().await {
        match event {
            PeerEvent::Candidate { candidate, mid, mline } => {
                if let Some(candidate) = wire.candidate(&candidate, &line).await {
                    let _ = to.add_candidate(&candidate, mid, mline).await;
                }
            }
            PeerEvent::ChannelOpen => {
                let _ = opened.send(()).await;
            }
            _ => {}
        }
    }
}

/// The processor time of this process since a moment.
struct Cpu(Option<f64>, Instant);

impl Cpu {
    fn start() -> Self {
        Self(Self::seconds(), Instant::now())
    }

    /// User and system time in seconds (proc(5): fields 14 and 15 of `stat`, in hundredths).
    fn seconds() -> Option<f64> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some((user + system) / 100.0)
    }

    fn per_minute(&self) -> String {
        let passed = self.1.elapsed().as_secs_f64();
        let used = Self::seconds().zip(self.0).map(|(now, then)| (now - then) * 60.0 / passed);
        used.map_or_else(|| "unknown here".to_owned(), |used| format!("{used:.1}"))
    }
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "never".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()))
}

fn ms(time: Option<&Duration>) -> String {
    time.map_or_else(|| "?".to_owned(), |time| format!("{} ms", time.as_millis()))
}
