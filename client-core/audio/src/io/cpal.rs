//! Real devices, by `cpal`: any rate, format and number of channels. Follows the system's default device when none was
//! chosen, by looking every two seconds. Asks for buffers of 10 ms, since defaults can mean seconds, and for longer ones
//! from a device that loses sound with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{
    BufferSize, Device, ErrorKind, FromSample, Host, SampleFormat, SizedSample, Stream, StreamConfig,
    SupportedBufferSize, SupportedStreamConfig, SupportedStreamConfigRange,
};

use super::{AudioIo, CaptureSink, IoError, Opened, PlayoutSource, RestartReason};
use crate::priority::raise_priority;
use crate::resample::Resampler;
use crate::{BLOCK, SAMPLE_RATE};

/// How long a sound system may take to open a device.
const OPENING: Duration = Duration::from_secs(3);
/// Checks between two looks at the device list.
const LOOK_EVERY: u32 = 4;
/// Buffers of a device: the first is the quickest; the next is tried whenever a device loses sound with one, as happens
/// while the machine is too busy to come in time.
const PERIODS: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
];
/// Sound that may be missing within [`PACE_WINDOW`]: more is no drift of a clock.
const MISSING: Duration = Duration::from_millis(100);
/// For how long missing sound is added up.
const PACE_WINDOW: Duration = Duration::from_secs(10);
/// Latency of a device that does not tell: one buffer in it and one in the system.
const UNKNOWN_LATENCY: Duration = Duration::from_millis(20);

/// Which way sound goes through a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// A microphone.
    Capture,
    /// A speaker.
    Playout,
}

impl Direction {
    fn word(self) -> &'static str {
        match self {
            Self::Capture => "microphone",
            Self::Playout => "speaker",
        }
    }
}

/// A device to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Stays the same between runs as far as the system can tell.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it does.
    pub direction: Direction,
    /// Whether the system prefers it.
    pub default: bool,
}

/// What there is to choose from, in the system's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// Microphones and speakers.
    pub list: Vec<DeviceInfo>,
    /// The sound system that was asked.
    pub system: String,
}

/// Lists the devices. Takes up to a few seconds when the sound system does not answer. Compare two answers to notice
/// what was plugged in or out.
pub fn devices() -> Devices {
    let host = cpal::default_host();
    let mut list = Vec::new();
    for direction in [Direction::Capture, Direction::Playout] {
        let preferred = default_id(&host, direction);
        for device in all(&host, direction) {
            let Some(id) = id(&device).filter(|id| !is_plugin(id)) else { continue };
            let default = preferred.as_ref() == Some(&id);
            list.push(DeviceInfo { name: name(&device), default, id, direction });
        }
    }
    Devices { list, system: host.id().to_string() }
}

/// ALSA lists its plugins, and parts of what it does inside, among the devices. They can be chosen by who knows them.
fn is_plugin(id: &str) -> bool {
    let Some(name) = id.strip_prefix("alsa:") else { return false };
    let is_inner = ["dmix:", "dsnoop:", "surround"].iter().any(|start| name.starts_with(start));
    name != "default" && (is_inner || !name.contains(':'))
}

/// A microphone and a speaker of this machine.
pub struct CpalIo {
    capture: Option<String>,
    playout: Option<String>,
    /// Places in [`PERIODS`]. They stay when the devices are opened again: a machine that was busy will be again.
    capture_period: usize,
    playout_period: usize,
    open: Option<Open>,
    checks: u32,
}

struct Open {
    capture_host: Host,
    playout_host: Host,
    capture: Option<(Stream, String)>,
    playout: Option<(Stream, String)>,
    capture_health: Arc<Health>,
    playout_health: Arc<Health>,
    capture_pace: Pace,
    playout_pace: Pace,
}

/// What callbacks tell about a stream.
#[derive(Default)]
struct Health {
    failed: AtomicBool,
    latency_us: AtomicU32,
    /// Sound that went through, in microseconds.
    passed_us: AtomicU64,
}

impl Health {
    fn pass(&self, frames: usize, rate: u32) {
        let time = frames as u64 * 1_000_000 / u64::from(rate.max(1));
        self.passed_us.fetch_add(time, Ordering::Relaxed);
    }

    fn set_latency(&self, latency: Duration) {
        let latency = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        self.latency_us.store(latency, Ordering::Relaxed);
    }

    fn latency(&self) -> Duration {
        match self.latency_us.load(Ordering::Relaxed) {
            0 => UNKNOWN_LATENCY,
            known => Duration::from_micros(u64::from(known)),
        }
    }
}

/// Compares the sound that went through a device with the time that passed.
#[derive(Default)]
struct Pace {
    since: Option<(Instant, u64)>,
}

impl Pace {
    /// By how many steps the buffers should grow, since sound is missing. Opening a device interrupts the sound, so that a
    /// bad one gets two at once. A device that gave nothing at all is stalled, which is found out elsewhere.
    fn missing_steps(&mut self, health: &Health, now: Instant) -> usize {
        let passed = health.passed_us.load(Ordering::Relaxed);
        let (start, before) = match self.since {
            Some(since) if now - since.0 < PACE_WINDOW => since,
            _ => {
                // Counting begins with the first sound: opening takes its time.
                self.since = (passed > 0).then_some((now, passed));
                return 0;
            }
        };
        let came = Duration::from_micros(passed - before);
        let missing = (now - start).saturating_sub(came);
        if came.is_zero() || missing < MISSING { 0 } else { 1 + usize::from(missing * 4 > now - start) }
    }
}

impl CpalIo {
    /// Devices by their id or name; nothing means the system's default, which also takes the place of one that is not there
    /// until it is.
    pub fn new(capture: Option<String>, playout: Option<String>) -> Self {
        Self { capture, playout, capture_period: 0, playout_period: 0, open: None, checks: 0 }
    }
}

impl AudioIo for CpalIo {
    fn start(&mut self, capture: CaptureSink, playout: PlayoutSource) -> Result<Opened, IoError> {
        self.stop();
        // A host can be the connection to a sound server that is gone: fresh ones each time. And one for either
        // direction: PulseAudio's client reads until nothing is left to read before it writes, so that a microphone
        // with tiny buffers on the same connection would starve the speaker.
        let (capture_host, playout_host) = (cpal::default_host(), cpal::default_host());
        let mut opened = Opened::default();
        let capture_health = Arc::new(Health::default());
        let playout_health = Arc::new(Health::default());
        let mut keep =
            |result: Result<(Stream, String, String), IoError>, shown: &mut Option<String>| match result {
                Ok((stream, id, name)) => {
                    *shown = Some(name);
                    Some((stream, id))
                }
                Err(problem) => {
                    opened.problems.push(problem);
                    None
                }
            };
        let (mut heard, mut spoken) = (None, None);
        let mut missing = Vec::new();
        let (capture_period, playout_period) = (PERIODS[self.capture_period], PERIODS[self.playout_period]);
        // The speaker first: what others say is missed the most.
        let playout = keep(
            find_or_default(&playout_host, Direction::Playout, self.playout.as_deref(), &mut missing)
                .and_then(|device| open_playout(&device, playout_period, playout, playout_health.clone())),
            &mut spoken,
        );
        let capture = keep(
            find_or_default(&capture_host, Direction::Capture, self.capture.as_deref(), &mut missing)
                .and_then(|device| open_capture(&device, capture_period, capture, capture_health.clone())),
            &mut heard,
        );
        opened.problems.extend(missing);
        opened.capture = heard;
        opened.playout = spoken;
        let nothing = capture.is_none() && playout.is_none();
        // The hosts stay even then: they are asked whether a device appeared.
        self.open = Some(Open {
            capture_host,
            playout_host,
            capture,
            playout,
            capture_health,
            playout_health,
            capture_pace: Pace::default(),
            playout_pace: Pace::default(),
        });
        match opened.problems.first() {
            Some(problem) if nothing => Err(problem.clone()),
            _ => Ok(opened),
        }
    }

    fn stop(&mut self) {
        self.open = None;
        self.checks = 0;
    }

    fn latency(&self) -> Duration {
        self.open
            .as_ref()
            .map_or(Duration::ZERO, |open| open.capture_health.latency() + open.playout_health.latency())
    }

    fn check(&mut self) -> Option<RestartReason> {
        let open = self.open.as_mut()?;
        let failed = |health: &Health| health.failed.load(Ordering::Relaxed);
        if failed(&open.capture_health) || failed(&open.playout_health) {
            return Some(RestartReason::Failed);
        }
        let now = Instant::now();
        let larger = |period: usize, steps: usize| (period + steps).min(PERIODS.len() - 1);
        let capture = open.capture_pace.missing_steps(&open.capture_health, now);
        let playout = open.playout_pace.missing_steps(&open.playout_health, now);
        let wanted = (larger(self.capture_period, capture), larger(self.playout_period, playout));
        let choppy = wanted != (self.capture_period, self.playout_period);
        self.checks = self.checks.wrapping_add(1);
        if !choppy && !self.checks.is_multiple_of(LOOK_EVERY) {
            return None;
        }
        // Sound is missing as well when the sound server moves a stream to another default device.
        let (capture, playout) = (self.capture.as_deref(), self.playout.as_deref());
        look(&open.capture_host, Direction::Capture, capture, open.capture.as_ref())
            .or_else(|| look(&open.playout_host, Direction::Playout, playout, open.playout.as_ref()))
            .or_else(|| {
                (self.capture_period, self.playout_period) = wanted;
                choppy.then_some(RestartReason::Choppy)
            })
    }
}

fn look(
    host: &Host,
    direction: Direction,
    chosen: Option<&str>,
    stream: Option<&(Stream, String)>,
) -> Option<RestartReason> {
    match (stream, chosen) {
        (None, _) => find(host, direction, chosen).ok().map(|_| RestartReason::Appeared),
        (Some((_, used)), None) => {
            default_id(host, direction).filter(|id| id != used).map(|_| RestartReason::DefaultChanged)
        }
        (Some((_, used)), Some(chosen)) => match find(host, direction, Some(chosen)) {
            Ok(device) => (id(&device).as_ref() != Some(used)).then_some(RestartReason::Appeared),
            // Sound servers move streams of a device that went away, and tell nobody.
            Err(_) => {
                default_id(host, direction).filter(|id| id != used).map(|_| RestartReason::DefaultChanged)
            }
        },
    }
}

fn all(host: &Host, direction: Direction) -> Vec<Device> {
    let found = match direction {
        Direction::Capture => host.input_devices().map(Iterator::collect),
        Direction::Playout => host.output_devices().map(Iterator::collect),
    };
    found.unwrap_or_default()
}

fn default_device(host: &Host, direction: Direction) -> Option<Device> {
    match direction {
        Direction::Capture => host.default_input_device(),
        Direction::Playout => host.default_output_device(),
    }
}

fn default_id(host: &Host, direction: Direction) -> Option<String> {
    default_device(host, direction).as_ref().and_then(id)
}

fn id(device: &Device) -> Option<String> {
    device.id().ok().map(|id| id.to_string())
}

fn name(device: &Device) -> String {
    device.description().map_or_else(|_| device.to_string(), |description| description.name().to_owned())
}

fn find(host: &Host, direction: Direction, chosen: Option<&str>) -> Result<Device, IoError> {
    let Some(chosen) = chosen else {
        return default_device(host, direction).ok_or(IoError::NoDevice { direction: direction.word() });
    };
    let devices = all(host, direction);
    let by_id = devices.iter().position(|device| id(device).as_deref() == Some(chosen));
    by_id
        .or_else(|| devices.iter().position(|device| name(device) == chosen))
        .and_then(|at| devices.into_iter().nth(at))
        .ok_or_else(|| IoError::UnknownDevice { direction: direction.word(), name: chosen.to_owned() })
}

/// The default device takes the place of a chosen one that is not there, which is told.
fn find_or_default(
    host: &Host,
    direction: Direction,
    chosen: Option<&str>,
    missing: &mut Vec<IoError>,
) -> Result<Device, IoError> {
    find(host, direction, chosen).or_else(|error| {
        let other = find(host, direction, None)?;
        missing.push(error);
        Ok(other)
    })
}

fn refused(direction: Direction) -> impl Fn(cpal::Error) -> IoError {
    move |error| IoError::Open { direction: direction.word(), cause: error.to_string() }
}

/// The device's own format, at 48 kHz if it can, with buffers of `period`.
fn choose(
    own: &SupportedStreamConfig,
    period: Duration,
    mut all: impl Iterator<Item = SupportedStreamConfigRange>,
) -> StreamConfig {
    let at_48_khz = all.any(|range| {
        range.channels() == own.channels()
            && range.sample_format() == own.sample_format()
            && range.contains_rate(SAMPLE_RATE)
    });
    let sample_rate = if at_48_khz { SAMPLE_RATE } else { own.sample_rate() };
    let frames = sample_rate * period.as_millis() as u32 / 1_000;
    let frames = match *own.buffer_size() {
        SupportedBufferSize::Range { min, max } if min <= max => frames.clamp(min, max),
        _ => frames,
    };
    StreamConfig { channels: own.channels(), sample_rate, buffer_size: BufferSize::Fixed(frames) }
}

fn watch(health: Arc<Health>) -> impl FnMut(cpal::Error) + Send + 'static {
    move |error| {
        // The stream goes on after these; all others end it.
        let harmless =
            matches!(error.kind(), ErrorKind::Xrun | ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied);
        if !harmless {
            health.failed.store(true, Ordering::Relaxed);
        }
    }
}

type Started = Result<(Stream, String, String), IoError>;

fn open_capture(device: &Device, period: Duration, sink: CaptureSink, health: Arc<Health>) -> Started {
    let failed = refused(Direction::Capture);
    let own = device.default_input_config().map_err(&failed)?;
    let config = choose(&own, period, device.supported_input_configs().into_iter().flatten());
    let stream = match own.sample_format() {
        SampleFormat::I8 => capture_stream::<i8>(device, config, sink, health),
        SampleFormat::I16 => capture_stream::<i16>(device, config, sink, health),
        SampleFormat::I24 => capture_stream::<cpal::I24>(device, config, sink, health),
        SampleFormat::I32 => capture_stream::<i32>(device, config, sink, health),
        SampleFormat::U8 => capture_stream::<u8>(device, config, sink, health),
        SampleFormat::U16 => capture_stream::<u16>(device, config, sink, health),
        SampleFormat::U32 => capture_stream::<u32>(device, config, sink, health),
        SampleFormat::F64 => capture_stream::<f64>(device, config, sink, health),
        _ => capture_stream::<f32>(device, config, sink, health),
    };
    started(stream, device, failed)
}

fn open_playout(device: &Device, period: Duration, source: PlayoutSource, health: Arc<Health>) -> Started {
    let failed = refused(Direction::Playout);
    let own = device.default_output_config().map_err(&failed)?;
    let config = choose(&own, period, device.supported_output_configs().into_iter().flatten());
    let stream = match own.sample_format() {
        SampleFormat::I8 => playout_stream::<i8>(device, config, source, health),
        SampleFormat::I16 => playout_stream::<i16>(device, config, source, health),
        SampleFormat::I24 => playout_stream::<cpal::I24>(device, config, source, health),
        SampleFormat::I32 => playout_stream::<i32>(device, config, source, health),
        SampleFormat::U8 => playout_stream::<u8>(device, config, source, health),
        SampleFormat::U16 => playout_stream::<u16>(device, config, source, health),
        SampleFormat::U32 => playout_stream::<u32>(device, config, source, health),
        SampleFormat::F64 => playout_stream::<f64>(device, config, source, health),
        _ => playout_stream::<f32>(device, config, source, health),
    };
    started(stream, device, failed)
}

fn started(
    stream: Result<Stream, cpal::Error>,
    device: &Device,
    failed: impl Fn(cpal::Error) -> IoError,
) -> Started {
    let stream = stream.map_err(&failed)?;
    stream.play().map_err(&failed)?;
    Ok((stream, id(device).unwrap_or_default(), name(device)))
}

fn capture_stream<T>(
    device: &Device,
    config: StreamConfig,
    mut sink: CaptureSink,
    health: Arc<Health>,
) -> Result<Stream, cpal::Error>
where
    T: SizedSample,
    f32: FromSample<T>,
{
    let channels = usize::from(config.channels.max(1));
    // Arrays and mixers put what matters in front.
    let used = channels.min(2);
    let mut resampler =
        (config.sample_rate != SAMPLE_RATE).then(|| Resampler::new(config.sample_rate, SAMPLE_RATE));
    let mut block = [0.0f32; BLOCK];
    let mut filled = 0;
    let told = health.clone();
    let mut raised = false;
    device.build_input_stream::<T, _, _>(
        config,
        move |data, info| {
            if !std::mem::replace(&mut raised, true) {
                raise_priority();
            }
            let at = info.timestamp();
            told.pass(data.len() / channels, config.sample_rate);
            told.set_latency(at.callback.duration_since(at.capture));
            let mut put = |value: f32| {
                block[filled] = value;
                filled += 1;
                if filled == BLOCK {
                    sink.write(&block);
                    filled = 0;
                }
            };
            for frame in data.chunks_exact(channels) {
                let sum: f32 = frame[..used].iter().map(|&sample| f32::from_sample_(sample)).sum();
                let mono = sum / used as f32;
                match &mut resampler {
                    Some(resampler) => resampler.push(mono, &mut put),
                    None => put(mono),
                }
            }
        },
        watch(health),
        Some(OPENING),
    )
}

fn playout_stream<T>(
    device: &Device,
    config: StreamConfig,
    mut source: PlayoutSource,
    health: Arc<Health>,
) -> Result<Stream, cpal::Error>
where
    T: SizedSample + FromSample<f32>,
{
    let channels = usize::from(config.channels.max(1));
    let mut resampler =
        (config.sample_rate != SAMPLE_RATE).then(|| Resampler::new(SAMPLE_RATE, config.sample_rate));
    // Outputs that one input made and the device has not asked for yet: at most the ratio of the rates.
    let mut spare = std::collections::VecDeque::with_capacity(64);
    let mut block = [0.0f32; BLOCK];
    let mut used = BLOCK;
    let told = health.clone();
    let mut raised = false;
    device.build_output_stream::<T, _, _>(
        config,
        move |data, info| {
            if !std::mem::replace(&mut raised, true) {
                raise_priority();
            }
            let at = info.timestamp();
            told.pass(data.len() / channels, config.sample_rate);
            told.set_latency(at.playback.duration_since(at.callback));
            source.expect(data.len() / channels * SAMPLE_RATE as usize / config.sample_rate as usize);
            let mut take = || {
                if used == BLOCK {
                    source.read(&mut block);
                    used = 0;
                }
                used += 1;
                block[used - 1]
            };
            for frame in data.chunks_exact_mut(channels) {
                let mono = match &mut resampler {
                    None => take(),
                    Some(resampler) => loop {
                        if let Some(value) = spare.pop_front() {
                            break value;
                        }
                        resampler.push(take(), |value| spare.push_back(value));
                    },
                };
                let value = T::from_sample_(mono);
                let silent = T::from_sample_(0.0);
                for (at, sample) in frame.iter_mut().enumerate() {
                    *sample = if at < 2 { value } else { silent };
                }
            }
        },
        watch(health),
        Some(OPENING),
    )
}
