//! What each layer of a clip costs and gives: `layers CLIP.y4m`, a 1280×720 file of 30 pictures a second, prints Markdown.
//! Beside every layer FFmpeg's libvpx does the same with the same settings. It is run by `cargo ci bench media` and never by a call.

#![allow(clippy::print_stdout, reason = "what it prints is its result")]

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use snug_media_proto::layer::{EncodedFrame, Layer};
use snug_video::pixel::{self, Scaler};
use snug_video::quality::{psnr, ssim};
use snug_video::sources::Y4mReader;
use snug_video::{FramePool, I420Frame, LayeredEncoder, SharedFrame, VideoCodecs, Vp8Codecs, Y4mRecorder};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const RATE: u32 = 30;
/// Repetitions of a conversion, so that the clock's grain does not matter.
const REPEATS: u32 = 200;

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).ok_or("usage: layers CLIP.y4m")?;
    let clip = read(Path::new(&path))?;
    println!(
        "| layer | target, kbit/s | who | got | encode, ms | decode, ms | PSNR, dB | SSIM | key frame, bytes |\n|---|---|---|---|---|---|---|---|---|"
    );
    for layer in Layer::ALL.into_iter().rev() {
        let pictures = scaled(&clip, layer)?;
        print_row(layer, "snug", &ours(&pictures, layer)?);
        match ffmpeg(&pictures, layer) {
            Ok(theirs) => print_row(layer, "FFmpeg, libvpx", &theirs),
            Err(error) => println!("| {} | | FFmpeg, libvpx | {error} | | | | | |", name(layer)),
        }
    }
    all_layers(&clip)?;
    conversions(&clip[0])
}

fn read(path: &Path) -> Result<Vec<SharedFrame>> {
    let mut reader = Y4mReader::new(File::open(path)?)?;
    let start = Instant::now();
    let mut clip = Vec::new();
    while let Some(frame) = reader.next_frame(start + reader.interval() * clip.len() as u32)? {
        clip.push(Arc::new(frame));
    }
    if clip.is_empty() { Err("the clip is empty".into()) } else { Ok(clip) }
}

/// The clip as a layer's encoder gets it: size and rate.
fn scaled(clip: &[SharedFrame], layer: Layer) -> Result<Vec<SharedFrame>> {
    let mut scaler = Scaler::default();
    let step = (RATE / layer.frame_rate()) as usize;
    let (width, height) = layer.size();
    clip.iter()
        .step_by(step)
        .map(|frame| match (frame.width(), frame.height()) == layer.size() {
            true => Ok(Arc::clone(frame)),
            false => Ok(Arc::new(scaler.scale(frame, width, height)?)),
        })
        .collect()
}

/// What came of encoding a clip.
#[derive(Default)]
struct Cost {
    encode_ms: f64,
    decode_ms: f64,
    kilobits: f64,
    psnr: f64,
    ssim: f64,
    key_bytes: usize,
}

fn ours(pictures: &[SharedFrame], layer: Layer) -> Result<Cost> {
    let mut encoder = LayeredEncoder::new(Arc::new(Vp8Codecs), pictures[0].captured());
    encoder.set_target(layer, Some(u32::try_from(layer.max_bps())?));
    let mut frames: Vec<EncodedFrame> = Vec::new();
    let mut places = Vec::new();
    let before = cpu();
    for (place, picture) in pictures.iter().enumerate() {
        encoder.encode(picture, &mut frames)?;
        places.resize(frames.len(), place);
    }
    let encode = cpu().saturating_sub(before);
    let stream: Vec<(usize, &[u8])> =
        places.into_iter().zip(frames.iter().map(|frame| &frame.data[..])).collect();
    judge(pictures, layer, &stream, encode)
}

/// FFmpeg's libvpx with what `snug-codec` sets.
fn ffmpeg(pictures: &[SharedFrame], layer: Layer) -> Result<Cost> {
    let folder = std::env::temp_dir().join(format!("snug-layers-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let made = reference(&folder, pictures, layer);
    std::fs::remove_dir_all(&folder)?;
    made
}

fn reference(folder: &Path, pictures: &[SharedFrame], layer: Layer) -> Result<Cost> {
    let (source, output) = (folder.join("source.y4m"), folder.join("output.ivf"));
    let mut recorder =
        Y4mRecorder::new(BufWriter::new(File::create(&source)?), layer.size(), layer.frame_rate())?;
    for picture in pictures {
        recorder.write(picture)?;
    }
    recorder.finish()?;
    let kilobits = layer.max_bps() / 1000;
    let rate = format!("{kilobits}k");
    // A second of buffer, half full at the start, as `snug-codec` has it.
    let (buffer, filled) = (format!("{kilobits}k"), format!("{}k", kilobits / 2));
    let temporal = format!(
        "ts_number_layers=2:ts_target_bitrate={},{kilobits}:ts_rate_decimator=2,1:ts_periodicity=2:ts_layer_id=0,1:ts_layering_mode=0",
        kilobits * 3 / 5
    );
    let encode: &[&str] = &[
        "-c:v",
        "libvpx",
        "-deadline",
        "realtime",
        "-cpu-used",
        "-6",
        "-threads",
        "1",
        "-b:v",
        &rate,
        "-minrate",
        &rate,
        "-maxrate",
        &rate,
        "-bufsize",
        &buffer,
        "-rc_init_occupancy",
        &filled,
        "-undershoot-pct",
        "100",
        "-overshoot-pct",
        "15",
        "-qmin",
        "2",
        "-qmax",
        "56",
        "-g",
        "99999",
        "-static-thresh",
        "1",
        "-max-intra-rate",
        "300",
        "-noise-sensitivity",
        "0",
        "-error-resilient",
        "default",
        "-lag-in-frames",
        "0",
        "-drop-threshold",
        "25",
        "-ts-parameters",
        &temporal,
    ];
    let reading = run_ffmpeg(&source, &["-c:v", "rawvideo"], &PathBuf::from("/dev/null"))?;
    let all = run_ffmpeg(&source, encode, &output)?;
    let file = std::fs::read(&output)?;
    judge(pictures, layer, &read_ivf(&file)?, all.saturating_sub(reading))
}

/// Runs FFmpeg and answers with its CPU time.
fn run_ffmpeg(source: &Path, encode: &[&str], output: &Path) -> Result<Duration> {
    let format = if output.extension().is_some() { "ivf" } else { "rawvideo" };
    let done = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-benchmark", "-y", "-threads", "1", "-i"])
        .arg(source)
        .args(encode)
        .args(["-f", format])
        .arg(output)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("not measured: ffmpeg cannot be run ({error}); install it"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        return Err(
            format!("not measured: ffmpeg failed: {}", said.lines().last().unwrap_or_default()).into()
        );
    }
    let seconds = |name: &str| -> Option<f64> { said.split_once(name)?.1.split_once('s')?.0.parse().ok() };
    let (user, system) = seconds("utime=").zip(seconds("stime=")).ok_or("ffmpeg told no CPU time")?;
    Ok(Duration::from_secs_f64(user + system))
}

/// The frames of an IVF file with the number of the picture that each shows.
fn read_ivf(file: &[u8]) -> Result<Vec<(usize, &[u8])>> {
    let mut rest = file.get(32..).ok_or("the IVF file has no header")?;
    let mut frames = Vec::new();
    while let Some((header, after)) = rest.split_at_checked(12) {
        let length = u32::from_le_bytes(header[..4].try_into()?) as usize;
        let place = u64::from_le_bytes(header[4..].try_into()?) as usize;
        let (data, next) = after.split_at_checked(length).ok_or("the IVF file is cut short")?;
        frames.push((place, data));
        rest = next;
    }
    Ok(frames)
}

/// Decodes the frames, each with the number of its picture, and compares all pictures: one that was left out shows the one before.
fn judge(
    pictures: &[SharedFrame],
    layer: Layer,
    frames: &[(usize, &[u8])],
    encode: Duration,
) -> Result<Cost> {
    let mut decoder = Vp8Codecs.decoder()?;
    let mut cost = Cost::default();
    let mut decode = Duration::ZERO;
    let mut shown: Option<I420Frame> = None;
    let mut next = frames.iter().peekable();
    for (place, picture) in pictures.iter().enumerate() {
        if let Some((_, data)) = next.next_if(|(of, _)| *of == place) {
            let before = cpu();
            let decoded = decoder.decode(data, picture.captured())?;
            decode += cpu().saturating_sub(before);
            shown = decoded.or(shown);
        }
        let shown = shown.as_ref().ok_or("the first picture was left out")?;
        cost.psnr += psnr(picture, shown).ok_or("another size came out")?;
        cost.ssim += ssim(picture, shown).ok_or("another size came out")?;
    }
    let count = pictures.len() as f64;
    let bytes: usize = frames.iter().map(|(_, data)| data.len()).sum();
    cost.psnr /= count;
    cost.ssim /= count;
    cost.encode_ms = encode.as_secs_f64() * 1000.0 / count;
    cost.decode_ms = decode.as_secs_f64() * 1000.0 / frames.len() as f64;
    cost.kilobits = bytes as f64 * 8.0 * f64::from(layer.frame_rate()) / count / 1000.0;
    cost.key_bytes = frames.first().map_or(0, |(_, data)| data.len());
    Ok(cost)
}

fn print_row(layer: Layer, who: &str, cost: &Cost) {
    println!(
        "| {} | {} | {who} | {:.0} | {:.2} | {:.2} | {:.2} | {:.3} | {} |",
        name(layer),
        layer.max_bps() / 1000,
        cost.kilobits,
        cost.encode_ms,
        cost.decode_ms,
        cost.psnr,
        cost.ssim,
        cost.key_bytes,
    );
}

fn name(layer: Layer) -> String {
    let (width, height) = layer.size();
    format!("{width}×{height}@{}", layer.frame_rate())
}

/// All three at once, scaling included.
fn all_layers(clip: &[SharedFrame]) -> Result<()> {
    let mut encoder = LayeredEncoder::new(Arc::new(Vp8Codecs), clip[0].captured());
    for layer in Layer::ALL {
        encoder.set_target(layer, Some(u32::try_from(layer.max_bps())?));
    }
    let mut frames = Vec::new();
    let before = cpu();
    for picture in clip {
        encoder.encode(picture, &mut frames)?;
        frames.clear();
    }
    let each = cpu().saturating_sub(before).as_secs_f64() * 1000.0 / clip.len() as f64;
    let encodes = Layer::ALL.map(|layer| encoder.stats(layer).encodes);
    println!(
        "\nAll three layers of one camera picture, scaling included: {each:.2} ms. Encodes of {} pictures, smallest layer first: {encodes:?}, whatever the number of receivers.\n",
        clip.len()
    );
    Ok(())
}

fn conversions(picture: &I420Frame) -> Result<()> {
    println!("| step, 1280×720 | ms |\n|---|---|");
    let pool = FramePool::default();
    let (width, height, at) = (picture.width(), picture.height(), picture.captured());
    let pixels = width as usize * height as usize;
    let packed = vec![100; pixels * 2];
    let planar = vec![100; pixels * 3 / 2];
    let mut scaler = Scaler::default();
    let mut rgba = Vec::new();
    let half = scaler.scale(picture, width / 2, height / 2)?;
    timed("YUYV to I420", || Ok(pixel::from_yuyv(&packed, &mut pool.frame(width, height, at)?)?))?;
    timed("NV12 to I420", || Ok(pixel::from_nv12(&planar, &mut pool.frame(width, height, at)?)?))?;
    timed("I420 to RGBA", || {
        pixel::to_rgba(picture, &mut rgba);
        Ok(())
    })?;
    timed("to 640×360", || {
        scaler.scale(picture, width / 2, height / 2)?;
        Ok(())
    })?;
    timed("from 640×360 to 320×180", || {
        scaler.scale(&half, width / 4, height / 4)?;
        Ok(())
    })?;
    timed("to 960×540, by area", || {
        scaler.scale(picture, width * 3 / 4, height * 3 / 4)?;
        Ok(())
    })?;
    timed("a copy", || {
        pool.copy(&picture.picture(), at)?;
        Ok(())
    })
}

fn timed(what: &str, mut step: impl FnMut() -> Result<()>) -> Result<()> {
    step()?;
    let before = cpu();
    for _ in 0..REPEATS {
        step()?;
    }
    let each = cpu().saturating_sub(before).as_secs_f64() * 1000.0 / f64::from(REPEATS);
    println!("| {what} | {each:.3} |");
    Ok(())
}

/// CPU time of this thread so far; where the system does not tell it, the clock's.
fn cpu() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}
