//! WAV files in and out. Reading takes PCM of 8 to 32 bits and floats of 32 and 64, any rate and channels, by a reader of our own that
//! believes no length a file tells (hound, which writes them, does, and reads no 64-bit floats); writing is 16-bit, 48 kHz mono.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use hound::{SampleFormat, WavSpec, WavWriter};
use snug_media_proto::container;

use crate::io::IoError;
use crate::resample::Resampler;
use crate::riff::{Format, Layout, RiffError};
use crate::{BLOCK, SAMPLE_RATE};

/// Blocks that wait for a slow disk at most: 5 s.
const WAITING: usize = 500;
/// Blocks after which a file is made whole while it grows: a second.
const WHOLE_EVERY: usize = 100;
/// Samples of one file at most: twelve hours, below the format's 4 GiB.
const LONGEST: u64 = 12 * 3_600 * SAMPLE_RATE as u64;

/// Bytes that are read at once, or a frame where that is more.
const READ_AHEAD: usize = 16 * 1024;

/// Reads a file as 48 kHz mono, again and again. The file may be cut short meanwhile: what is left of it goes on.
pub(crate) struct WavLoop {
    path: PathBuf,
    file: File,
    layout: Layout,
    /// Whole frames that were read, and how much of them has been played.
    frames: Vec<u8>,
    played: usize,
    /// Where the next frames are in the file.
    at: u64,
    resampler: Resampler,
    ready: VecDeque<f32>,
    repeat: bool,
    /// A file that cannot be read any more is told once.
    told: bool,
}

impl WavLoop {
    pub(crate) fn open(path: &Path, repeat: bool) -> Result<Self, IoError> {
        let name = || path.display().to_string();
        let mut file = open_regular(path)?;
        let layout = Layout::read(&mut file).map_err(|error| match error {
            RiffError::Read(error) => unusable(path, &error),
            RiffError::Foreign => IoError::Foreign { path: name(), kind: kind_of(&mut file) },
            RiffError::Unsupported(cause) => IoError::Unsupported { path: name(), cause },
            RiffError::Damaged(cause) => IoError::Damaged { path: name(), cause: cause.to_owned() },
        })?;
        let resampler = Resampler::new(layout.format.rate, SAMPLE_RATE);
        Ok(Self {
            path: path.to_owned(),
            file,
            at: layout.data.start,
            layout,
            frames: Vec::new(),
            played: 0,
            resampler,
            ready: VecDeque::new(),
            repeat,
            told: false,
        })
    }

    /// Fills `out`. Past the end, or behind what cannot be read, it is silent or starts again.
    pub(crate) fn read(&mut self, out: &mut [f32]) {
        let mut rewound = false;
        while self.ready.len() < out.len() {
            if let Some(sample) = self.frame() {
                rewound = false;
                let ready = &mut self.ready;
                self.resampler.push(sample, |value| ready.push_back(value));
            } else if self.repeat && !rewound {
                self.at = self.layout.data.start;
                rewound = true;
            } else {
                break;
            }
        }
        for value in out {
            *value = self.ready.pop_front().unwrap_or(0.0);
        }
    }

    /// The mean of the next frame's channels.
    fn frame(&mut self) -> Option<f32> {
        let Format { encoding, channels, .. } = self.layout.format;
        let length = self.layout.format.frame();
        if self.played + length > self.frames.len() {
            self.refill(length);
        }
        let frame = self.frames.get(self.played..self.played + length)?;
        self.played += length;
        let sum: f32 = frame.chunks_exact(encoding.bytes()).map(|bytes| encoding.sample(bytes)).sum();
        Some(sum / f32::from(channels))
    }

    /// Reads the next whole frames; none at the end.
    fn refill(&mut self, length: usize) {
        self.played = 0;
        self.frames.clear();
        let most = (READ_AHEAD / length).max(1) * length;
        let left = self.layout.data.end.saturating_sub(self.at).min(most as u64);
        let read = self.file.seek(SeekFrom::Start(self.at)).and_then(|_| {
            let file = &mut self.file;
            file.take(left).read_to_end(&mut self.frames)
        });
        if let Err(error) = read
            && !std::mem::replace(&mut self.told, true)
        {
            tracing::warn!(path = %self.path.display(), %error, "the sound file cannot be read any more");
        }
        self.frames.truncate(self.frames.len() / length * length);
        self.at += self.frames.len() as u64;
    }
}

/// Opens a file, and nothing that only looks like one: a pipe would be waited for.
fn open_regular(path: &Path) -> Result<File, IoError> {
    let metadata = std::fs::metadata(path).map_err(|error| unusable(path, &error))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "it is a folder" } else { "it is a pipe or a device" };
        return Err(IoError::NotAFile { path: path.display().to_string(), what });
    }
    File::open(path).map_err(|error| unusable(path, &error))
}

/// What else the file is.
fn kind_of(file: &mut File) -> &'static str {
    let mut start = Vec::new();
    // What cannot be read is of no known kind.
    let _ = file.rewind().and_then(|()| file.take(container::START as u64).read_to_end(&mut start));
    container::kind(&start).unwrap_or("of no kind that is known")
}

/// Makes a file and never touches one that is there: `name.wav` becomes `name-2.wav`, and so on.
///
/// # Errors
/// When the file cannot be made, or ten thousand of them are there.
pub fn create_beside(path: &Path) -> std::io::Result<File> {
    let (stem, extension) = (path.file_stem().unwrap_or_default(), path.extension().unwrap_or_default());
    let mut place = path.to_owned();
    for number in 2..=10_000 {
        match File::create_new(&place) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let mut name = stem.to_owned();
                name.push(format!("-{number}."));
                name.push(extension);
                place = path.with_file_name(name);
            }
            done => return done,
        }
    }
    File::create_new(place)
}

const SPEC: WavSpec =
    WavSpec { channels: 1, sample_rate: SAMPLE_RATE, bits_per_sample: 16, sample_format: SampleFormat::Int };

/// A block, and how many silent ones go before it.
struct Piece {
    silence: u64,
    block: [i16; BLOCK],
}

/// Writes blocks to a file from a thread of its own, so that a slow disk delays nobody. Dropping it lets the thread finish the file;
/// whoever has to know that the file is whole joins the thread.
pub(crate) struct WavRecorder {
    pieces: Option<SyncSender<Piece>>,
    silence: u64,
    begun: bool,
}

impl WavRecorder {
    /// Makes the file at once.
    pub(crate) fn create(path: &Path) -> Result<(Self, JoinHandle<()>), IoError> {
        let file = create_beside(path).map_err(|error| unusable(path, &error))?;
        let warn = |error| tracing::warn!(%error, "a recording stopped");
        Self::start(path.to_owned(), Some(file), warn)
    }

    /// Makes the file with the first sound: who never says anything leaves none. A fault is told from the thread.
    pub(crate) fn later(
        path: PathBuf,
        failed: impl FnOnce(IoError) + Send + 'static,
    ) -> Result<(Self, JoinHandle<()>), IoError> {
        Self::start(path, None, failed)
    }

    fn start(
        path: PathBuf,
        file: Option<File>,
        failed: impl FnOnce(IoError) + Send + 'static,
    ) -> Result<(Self, JoinHandle<()>), IoError> {
        let (pieces, waiting) = sync_channel(WAITING);
        let begun = file.is_some();
        let name = path.clone();
        let thread = std::thread::Builder::new()
            .name("snug-wav".to_owned())
            .spawn(move || {
                if let Err(error) = write_all(&path, file, &waiting) {
                    failed(unusable(&path, &error));
                }
            })
            .map_err(|error| unusable(&name, &error))?;
        Ok((Self { pieces: Some(pieces), silence: 0, begun }, thread))
    }

    /// Appends a block. What a slow disk makes miss is made up by silence, so that the file keeps its time.
    pub(crate) fn write(&mut self, block: &[f32; BLOCK]) {
        let Some(pieces) = &self.pieces else { return };
        self.begun |= block.iter().any(|value| *value != 0.0);
        if !self.begun {
            self.silence += 1;
            return;
        }
        let block = block.map(|value| (value.clamp(-1.0, 1.0) * f32::from(i16::MAX)) as i16);
        match pieces.try_send(Piece { silence: self.silence, block }) {
            Ok(()) => self.silence = 0,
            Err(TrySendError::Full(_)) => self.silence += 1,
            Err(TrySendError::Disconnected(_)) => self.pieces = None,
        }
    }
}

fn unusable(path: &Path, cause: &dyn std::fmt::Display) -> IoError {
    IoError::File { path: path.display().to_string(), cause: cause.to_string() }
}

fn write_all(path: &Path, file: Option<File>, pieces: &Receiver<Piece>) -> Result<(), hound::Error> {
    let mut pieces = pieces.iter().peekable();
    let file = match file {
        Some(file) => file,
        None if pieces.peek().is_none() => return Ok(()),
        None => create_beside(path)?,
    };
    let mut writer = WavWriter::new(BufWriter::new(file), SPEC)?;
    let mut left = LONGEST / BLOCK as u64;
    for (number, Piece { silence, block }) in pieces.enumerate() {
        if left <= silence {
            break;
        }
        left -= silence + 1;
        if number % WHOLE_EVERY == 0 {
            // The header says how long the file is, whatever happens afterwards.
            writer.flush()?;
        }
        for _ in 0..silence * BLOCK as u64 {
            writer.write_sample(0i16)?;
        }
        for sample in block {
            writer.write_sample(sample)?;
        }
    }
    writer.finalize()
}

#[cfg(test)]
#[path = "../../../ci/needs.rs"]
mod needs;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop anywhere")]
mod tests {
    use hound::WavReader;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("snug-wav-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_second_recording_leaves_the_first_one_alone() {
        let folder = folder("second");
        let path = folder.join("ana.wav");
        for _ in 0..3 {
            let (mut recorder, thread) = WavRecorder::create(&path).unwrap();
            recorder.write(&[0.5; BLOCK]);
            drop(recorder);
            thread.join().unwrap();
        }
        for name in ["ana.wav", "ana-2.wav", "ana-3.wav"] {
            assert_eq!(WavReader::open(folder.join(name)).unwrap().duration(), BLOCK as u32, "{name}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_is_made_with_the_first_sound_and_keeps_the_silence_before_it() {
        let folder = folder("first");
        let path = folder.join("ana.wav");
        for (sounds, length) in [(false, None), (true, Some(6 * BLOCK as u32))] {
            let (mut recorder, thread) = WavRecorder::later(path.clone(), |error| panic!("{error}")).unwrap();
            for _ in 0..5 {
                recorder.write(&[0.0; BLOCK]);
            }
            if sounds {
                recorder.write(&[0.5; BLOCK]);
            }
            drop(recorder);
            thread.join().unwrap();
            assert_eq!(WavReader::open(&path).ok().map(|file| file.duration()), length);
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_made_is_told_by_its_thread() {
        let path = folder("gone").join("missing").join("ana.wav");
        let (told, heard) = sync_channel(1);
        let (mut recorder, thread) =
            WavRecorder::later(path, move |error| told.send(error).unwrap()).unwrap();
        recorder.write(&[0.5; BLOCK]);
        assert_eq!(heard.recv().unwrap().code(), "AUDIO_FILE_UNREADABLE");
        drop(recorder);
        thread.join().unwrap();
    }

    /// A sine of 1 kHz in a file of one channel at 48 kHz, 100 ms long, with so many bytes cut off.
    fn tone(path: &Path, cut: u64) {
        let mut writer = WavWriter::create(path, SPEC).unwrap();
        for at in 0..4_800 {
            writer
                .write_sample((f32::sin(at as f32 * std::f32::consts::TAU / 48.0) * 8_000.0) as i16)
                .unwrap();
        }
        writer.finalize().unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() - cut).unwrap();
    }

    /// The largest step between two samples: 0.032 for the tone, far more for noise.
    fn roughest(sound: &[f32]) -> f32 {
        sound.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
    }

    fn play(wav: &mut WavLoop, blocks: usize) -> Vec<f32> {
        let mut sound = vec![0.0; blocks * BLOCK];
        sound.chunks_mut(BLOCK).for_each(|block| wav.read(block));
        sound
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_the_same_sound_in_every_round() {
        let folder = folder("cut");
        let path = folder.join("tone.wav");
        for cut in 0..9 {
            tone(&path, cut);
            let mut wav = WavLoop::open(&path, true).unwrap();
            // Five rounds; at each seam a few samples of the sine may be missing.
            let sound = play(&mut wav, 50);
            let peak = sound.iter().copied().fold(0.0, f32::max);
            assert!((0.23..0.26).contains(&peak), "{cut} bytes cut: {peak}");
            assert!(roughest(&sound) < 0.2, "{cut} bytes cut: a step of {}", roughest(&sound));
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_shrinks_while_it_plays_goes_on_with_what_is_left() {
        let folder = folder("shrinks");
        let path = folder.join("tone.wav");
        tone(&path, 0);
        let mut wav = WavLoop::open(&path, true).unwrap();
        assert!(play(&mut wav, 4).iter().any(|value| value.abs() > 0.2));
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(44 + 2 * 2_400 + 1).unwrap();
        let sound = play(&mut wav, 40);
        assert!(roughest(&sound) < 0.2, "a step of {}", roughest(&sound));
        assert!(sound[sound.len() - BLOCK..].iter().any(|value| value.abs() > 0.2), "it goes on");
        // Nothing is left: silence, at no cost.
        file.set_len(10).unwrap();
        play(&mut wav, 20);
        assert!(play(&mut wav, 1).iter().all(|value| value.abs() < 1e-3));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_of_sixty_four_bit_floats_is_heard() {
        let folder = folder("doubles");
        let path = folder.join("double.wav");
        let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x03\0\x02\0".to_vec();
        file.extend(48_000u32.to_le_bytes());
        file.extend((48_000u32 * 16).to_le_bytes());
        file.extend([16, 0, 64, 0]);
        file.extend(b"data\xff\xff\xff\xff");
        for _ in 0..4_800 {
            file.extend(0.5f64.to_le_bytes());
            file.extend(0.25f64.to_le_bytes());
        }
        std::fs::write(&path, file).unwrap();
        let sound = play(&mut WavLoop::open(&path, false).unwrap(), 4);
        assert!((sound[1_000] - 0.375).abs() < 0.01, "{}", sound[1_000]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_no_wav_file_is_refused_by_its_kind_with_a_code_and_one_action() {
        let folder = folder("foreign");
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let fifo = folder.join("fifo.wav");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        for (path, code, words) in [
            (file("a.mp4", b"\0\0\0\x20ftypisom...."), "AUDIO_FILE_NOT_WAV", "is an MP4 file"),
            (file("b.wav", b"hello\n"), "AUDIO_FILE_NOT_WAV", "is a text file"),
            (file("c.wav", b"\x89PNG\r\n\x1a\n........"), "AUDIO_FILE_NOT_WAV", "is a PNG picture"),
            (file("d.wav", b""), "AUDIO_FILE_DAMAGED", "it is empty"),
            (folder.clone(), "AUDIO_NOT_A_FILE", "it is a folder"),
            (fifo, "AUDIO_NOT_A_FILE", "it is a pipe or a device"),
            (folder.join("missing.wav"), "AUDIO_FILE_UNREADABLE", "check the path"),
        ] {
            let error = WavLoop::open(&path, true).map(drop).unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.to_string().matches(';').count(), 1, "a cause and one action: {error}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_advice_for_a_file_that_is_not_played_cures_it() {
        if !needs::programs("ffmpeg", &["ffmpeg"]) {
            return;
        }
        let folder = folder("advice");
        for (number, format) in [
            &["-c:a", "pcm_mulaw"][..],
            &["-c:a", "adpcm_ms"],
            &["-c:a", "pcm_alaw", "-ar", "8000"],
            &["-c:a", "pcm_s16le", "-ar", "2000"],
            &["-c:a", "pcm_s16le", "-ar", "500000"],
        ]
        .into_iter()
        .enumerate()
        {
            let (input, output) =
                (folder.join(format!("{number}.wav")), folder.join(format!("{number}-out.wav")));
            let source = ["-f", "lavfi", "-i", "sine=frequency=440:duration=0.2"];
            ffmpeg(&[&source[..], format, &[input.to_str().unwrap()]].concat());
            let error = WavLoop::open(&input, true).map(drop).unwrap_err();
            assert_eq!(error.code(), "AUDIO_FILE_UNSUPPORTED", "{error}");
            let words = error.to_string();
            let advice = words.split('`').nth(1).unwrap().strip_prefix("ffmpeg ").unwrap();
            let arguments: Vec<&str> = advice
                .split(' ')
                .map(|word| match word {
                    "IN" => input.to_str().unwrap(),
                    "out.wav" => output.to_str().unwrap(),
                    word => word,
                })
                .collect();
            ffmpeg(&arguments);
            let sound = play(&mut WavLoop::open(&output, true).unwrap(), 10);
            assert!(sound.iter().any(|value| value.abs() > 0.05), "{format:?} is heard");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn ffmpeg(arguments: &[&str]) {
        let mut command = std::process::Command::new("ffmpeg");
        let done = command.args(["-v", "error", "-y"]).args(arguments).output().expect("it is there");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}
