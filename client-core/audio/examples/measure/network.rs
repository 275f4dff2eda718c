//! Speech through encoder, redundancy, a seeded network in virtual time, and a listener.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use snug_codec::opus::{Channels, Decoder, Encoder, EncoderConfig, OpusError};
use snug_jitter::{AudioDecoder, JitterBuffer, JitterConfig, Packet};
use snug_media_proto::red::{RedPayload, RedWriter};

use crate::{BLOCK, Dice, cpu_seconds, write};

/// Frames are of 20 ms.
const FRAME: usize = 960;
/// Mean length of a burst of lost packets.
const BURST: f64 = 1.5;
const SEEDS: [u64; 3] = [1, 2, 3];
const OPUS_TYPE: u8 = 111;

struct Net {
    name: &'static str,
    jitter_ms: f64,
    loss: f64,
}

const NETS: [Net; 6] = [
    Net { name: "perfect", jitter_ms: 0.0, loss: 0.0 },
    Net { name: "jitter 50 ms", jitter_ms: 50.0, loss: 0.0 },
    Net { name: "5 % loss", jitter_ms: 0.0, loss: 0.05 },
    Net { name: "jitter 50 ms, 5 % loss", jitter_ms: 50.0, loss: 0.05 },
    Net { name: "20 % loss", jitter_ms: 0.0, loss: 0.2 },
    Net { name: "jitter 50 ms, 20 % loss", jitter_ms: 50.0, loss: 0.2 },
];

/// What is sent for a measured loss: rate, frames repeated in each packet, loss declared to the encoder. The first is what a call's
/// allocator settles at; the second is the codec's own repair data alone.
fn plan(loss: f64, red: bool) -> (u32, usize, u8) {
    let declared = (loss * 100.0) as u8;
    // A call declares no more: what is lost beyond is repeated whole.
    let most = if red { 10 } else { 30 };
    let declared = declared.min(most);
    match loss {
        _ if !red => (32_000, 0, declared),
        0.08.. => (24_000, 2, declared),
        0.02.. => (32_000, 1, declared),
        _ => (32_000, 0, declared),
    }
}

pub fn run(speech: &[f32], folder: &Path, quick: bool) {
    write(&folder.join("reference.wav"), speech);
    write(&folder.join("codec.wav"), &codec(speech));
    println!("codec\twav=codec.wav");
    for (at, net) in NETS.iter().enumerate() {
        for seed in SEEDS {
            // A perfect network is the same with every seed.
            if seed != SEEDS[0] && (quick || net.loss == 0.0 && net.jitter_ms == 0.0) {
                continue;
            }
            let ours = arrivals(speech, net, seed, true);
            let mut own = Own::new();
            let heard = listen(speech.len(), &ours, &mut own);
            let wav = format!("net{at}-{seed}.wav");
            write(&folder.join(&wav), &heard);
            own.delays.sort_by(f64::total_cmp);
            let mean = own.delays.iter().sum::<f64>() / own.delays.len() as f64;
            let high = own.delays[own.delays.len() * 95 / 100];
            let stats = own.buffer.stats();
            println!(
                "ours: {}\twav={wav}\tseed={seed}\tdelay={mean:.1}\tdelay95={high:.1}\tcpu={:.4}\tconcealed={:.2}\tstretched={:.2}\tlate={}\tlost={}\tred={}\tfec={}",
                net.name,
                own.cpu * 1e3 / (speech.len() / BLOCK) as f64,
                stats.concealed as f64 * 100.0 / stats.played as f64,
                (stats.accelerated + stats.expanded) as f64 * 100.0 / stats.played as f64,
                stats.late,
                stats.lost,
                stats.red,
                stats.fec,
            );
            let plain = arrivals(speech, net, seed, false);
            let mut fixed = Fixed::new();
            let wav = format!("fixed{at}-{seed}.wav");
            write(&folder.join(&wav), &listen(speech.len(), &plain, &mut fixed));
            println!("fixed: {}\twav={wav}\tseed={seed}", net.name);
        }
    }
}

/// The codec without a network.
fn codec(speech: &[f32]) -> Vec<f32> {
    let mut encoder = Encoder::new(EncoderConfig::voice()).unwrap();
    let mut decoder = Decoder::new(Channels::Mono).unwrap();
    let mut heard = Vec::new();
    for frame in speech.as_chunks::<FRAME>().0 {
        let payload = encoder.encode(frame).unwrap().payload.to_vec();
        decoder.decode(&payload, &mut heard).unwrap();
    }
    heard
}

/// An RTP packet on its way.
struct Sent {
    sequence: u16,
    timestamp: u32,
    payload: Bytes,
    red: bool,
}

/// What arrives when, in microseconds.
fn arrivals(speech: &[f32], net: &Net, seed: u64, red: bool) -> BTreeMap<(u64, u16), Sent> {
    let (bitrate, copies, declared) = plan(net.loss, red);
    let mut encoder = Encoder::new(EncoderConfig { bitrate, ..EncoderConfig::voice() }).unwrap();
    encoder.set_loss_percent(declared).unwrap();
    let mut writer = RedWriter::default();
    writer.set_copies(copies);
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for _ in 0..10 {
        dice.roll();
    }
    let (mut sequence, mut paused, mut losing) = (0_u16, false, false);
    let mut all = BTreeMap::new();
    for (index, frame) in speech.as_chunks::<FRAME>().0.iter().enumerate() {
        let encoded = encoder.encode(frame).unwrap();
        let silent = encoded.silent;
        let payload = Bytes::copy_from_slice(encoded.payload);
        // As in a call: the first frame of a pause is sent, the others say nothing.
        if silent && std::mem::replace(&mut paused, true) {
            continue;
        }
        paused = silent;
        let timestamp = index as u32 * FRAME as u32;
        let payload = if copies > 0 { writer.write(OPUS_TYPE, timestamp, &payload) } else { payload };
        // Two states: in the bad one everything is lost.
        let leave = 1.0 / BURST;
        let enter = leave * net.loss / (1.0 - net.loss);
        losing = dice.roll() < if losing { 1.0 - leave } else { enter };
        let late = dice.roll() * net.jitter_ms * 1e3;
        if !losing {
            let at = index as u64 * 20_000 + late as u64;
            all.insert((at, sequence), Sent { sequence, timestamp, payload, red: copies > 0 });
        }
        sequence = sequence.wrapping_add(1);
    }
    all
}

trait Listener {
    fn insert(&mut self, sent: &Sent, at: Duration);
    fn pull(&mut self, now: Duration, out: &mut [f32; BLOCK]);
}

fn listen(length: usize, arrivals: &BTreeMap<(u64, u16), Sent>, listener: &mut dyn Listener) -> Vec<f32> {
    let mut coming = arrivals.iter().peekable();
    let mut heard = Vec::with_capacity(length);
    // Long enough for the last frame to be heard behind the longest delay.
    for pull in 0..(length / BLOCK + 20) as u64 {
        let now = pull * 10_000;
        while let Some((key, sent)) = coming.next_if(|(key, _)| key.0 <= now) {
            listener.insert(sent, Duration::from_micros(key.0));
        }
        let mut out = [0.0; BLOCK];
        listener.pull(Duration::from_micros(now), &mut out);
        heard.extend_from_slice(&out);
    }
    heard
}

/// The product's jitter buffer, fed as `snug-audio` feeds it.
struct Own {
    base: Instant,
    buffer: JitterBuffer,
    decoder: Opus,
    delays: Vec<f64>,
    cpu: f64,
}

impl Own {
    fn new() -> Self {
        Self {
            base: Instant::now(),
            buffer: JitterBuffer::new(JitterConfig::default()),
            decoder: Opus(Decoder::new(Channels::Mono).unwrap()),
            delays: Vec::new(),
            cpu: 0.0,
        }
    }

    fn put(&mut self, sequence: Option<u16>, timestamp: u32, payload: Bytes, at: Duration) {
        let packet = Packet { sequence, timestamp, payload, redundant: sequence.is_none() };
        self.buffer.insert(packet, self.base + at);
    }
}

impl Listener for Own {
    fn insert(&mut self, sent: &Sent, at: Duration) {
        let before = cpu_seconds(false);
        let mut payload = sent.payload.clone();
        if sent.red {
            let red = RedPayload::parse(&payload, sent.timestamp).unwrap();
            for block in red.redundant {
                self.put(None, block.timestamp, block.data, at);
            }
            payload = red.primary.data;
        }
        self.put(Some(sent.sequence), sent.timestamp, payload, at);
        self.cpu += cpu_seconds(false) - before;
    }

    fn pull(&mut self, now: Duration, out: &mut [f32; BLOCK]) {
        let before = cpu_seconds(false);
        self.buffer.pull(self.base + now, &mut self.decoder, out);
        self.cpu += cpu_seconds(false) - before;
        // The beginning, where nothing is known of the network, is left out.
        if now > Duration::from_secs(2) {
            self.delays.push(self.buffer.current_delay().as_secs_f64() * 1e3);
        }
    }
}

/// The reference: everything is heard 120 ms after it was said, with what libopus itself offers for holes.
struct Fixed {
    packets: BTreeMap<u32, Bytes>,
    decoder: Decoder,
    queue: Vec<f32>,
    next: u32,
    pausing: bool,
}

impl Fixed {
    const DELAY: Duration = Duration::from_millis(120);

    fn new() -> Self {
        let decoder = Decoder::new(Channels::Mono).unwrap();
        Self { packets: BTreeMap::new(), decoder, queue: Vec::new(), next: 0, pausing: false }
    }
}

impl Listener for Fixed {
    fn insert(&mut self, sent: &Sent, _at: Duration) {
        if sent.timestamp >= self.next {
            self.packets.insert(sent.timestamp, sent.payload.clone());
        }
    }

    fn pull(&mut self, now: Duration, out: &mut [f32; BLOCK]) {
        if now < Self::DELAY {
            return;
        }
        if self.queue.len() < BLOCK {
            let own = self.packets.remove(&self.next);
            let following = self.packets.get(&(self.next + FRAME as u32));
            match (own, following) {
                (Some(payload), _) => {
                    self.pausing = payload.len() <= 2;
                    self.decoder.decode(&payload, &mut self.queue).unwrap();
                }
                (None, Some(following)) if !self.pausing && Decoder::has_fec(following) => {
                    self.decoder.decode_fec(following, FRAME, &mut self.queue).unwrap();
                }
                _ => {
                    self.decoder.conceal(FRAME, &mut self.queue).unwrap();
                }
            }
            self.next += FRAME as u32;
        }
        out.copy_from_slice(&self.queue[..BLOCK]);
        self.queue.drain(..BLOCK);
    }
}

struct Opus(Decoder);

impl AudioDecoder for Opus {
    type Error = OpusError;

    fn decode(&mut self, payload: &[u8], out: &mut Vec<f32>) -> Result<usize, OpusError> {
        self.0.decode(payload, out)
    }

    fn decode_fec(&mut self, payload: &[u8], samples: usize, out: &mut Vec<f32>) -> Result<usize, OpusError> {
        self.0.decode_fec(payload, samples, out)
    }

    fn conceal(&mut self, samples: usize, out: &mut Vec<f32>) -> Result<usize, OpusError> {
        self.0.conceal(samples, out)
    }

    fn has_fec(&self, payload: &[u8]) -> bool {
        Decoder::has_fec(payload)
    }
}
