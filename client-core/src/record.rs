//! Recording: what each participant sends, written as it comes. Pictures are not encoded again: the received VP8 goes into an IVF file,
//! from a thread of its own, so that a slow disk delays nobody. Sound is written by the mixer after its jitter buffer.
//!
//! ```text
//! FrameAssembler ── Tap ── queue ── writer thread ── NAME-ID.ivf
//! JitterBuffer ── the sound engine's recorder ── NAME-ID.wav
//! ```

use std::collections::BTreeMap;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use snug_audio::create_beside;
use snug_media_proto::assemble::AssembledFrame;
use snug_media_proto::section::Section;
use snug_video::{IvfRecorder, RecordError};
use snug_wire::UserId;

use crate::session::problem;
use crate::teller::Teller;

/// Frames that wait for a slow disk at most: about four seconds. What does not fit is left out up to the next key frame.
const WAITING: usize = 120;
/// How often a file is made whole while it grows.
const CHECKPOINT: Duration = Duration::from_secs(1);
/// How long the end of a call waits for a slow disk.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Frames without a key frame after which one is asked for again.
const KEY_ASKED: u32 = 60;
/// What the names of a link's files end with.
const ENDS: [&str; 3] = [".ivf", "-screen.ivf", ".wav"];
/// Recordings of one participant in one folder that are counted; behind these each file finds a name of its own.
const MOST_FILES: u32 = 1000;
/// Characters of a participant's name in the name of a file.
const NAME: usize = 32;

/// A folder that participants are recorded into.
pub(crate) struct Recording {
    folder: PathBuf,
    /// Links of each participant that were recorded so far: a second one gets files of its own.
    links: BTreeMap<UserId, u32>,
    teller: Teller,
    /// Held by every writer; when the last one is gone, everything is on disk.
    writing: Sender<()>,
    written: Receiver<()>,
}

impl Recording {
    /// Makes the folder where there is none.
    pub(crate) fn new(folder: PathBuf, teller: Teller) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let (writing, written) = channel();
        Ok(Self { folder, links: BTreeMap::new(), teller, writing, written })
    }

    /// Starts to record a link's pictures, and says where its sound is to go.
    pub(crate) fn start(&mut self, user: UserId, name: &str, taps: &Taps) -> PathBuf {
        let number = self.links.entry(user).or_default();
        let stem = loop {
            *number += 1;
            let again = if *number > 1 { format!("-{number}") } else { String::new() };
            let stem = format!("{}-{user}{again}", file_name(name));
            // The files of one link have one name, and none of an earlier recording.
            let is_free = |end: &&str| !self.folder.join(format!("{stem}{end}")).exists();
            if *number >= MOST_FILES || ENDS.iter().all(is_free) {
                break stem;
            }
        };
        for (tap, kind) in [(&taps.camera, ""), (&taps.screen, "-screen")] {
            let track = Track {
                path: self.folder.join(format!("{stem}{kind}.ivf")),
                file: Output::NotYet,
                skipped: 0,
                broken: true,
                teller: self.teller.clone(),
                writing: self.writing.clone(),
            };
            *tap.lock() = Some(track);
        }
        self.folder.join(format!("{stem}.wav"))
    }

    /// Waits until all that was recorded is on disk, once every tap is closed.
    pub(crate) fn finish(self) {
        drop(self.writing);
        if self.written.recv_timeout(LAST_WORDS) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the disk is too slow: the end of a recording may be missing");
        }
    }
}

/// Where a link's frames pass by on their way to the decoder. Clones share it; a closed one costs nothing.
#[derive(Clone, Default)]
pub(crate) struct Tap(Arc<Mutex<Option<Track>>>);

/// Both pictures of a link.
#[derive(Clone, Default)]
pub(crate) struct Taps {
    pub(crate) camera: Tap,
    pub(crate) screen: Tap,
}

impl Taps {
    pub(crate) fn of(&self, section: Section) -> Tap {
        if section == Section::Screen { self.screen.clone() } else { self.camera.clone() }
    }

    /// Ends the recording of this link; its files are finished by their threads.
    pub(crate) fn close(&self) {
        for tap in [&self.camera, &self.screen] {
            *tap.lock() = None;
        }
    }
}

impl Tap {
    /// Takes a frame; says whether a key frame is missing, once each time.
    pub(crate) fn take(&self, frame: &AssembledFrame) -> bool {
        self.lock().as_mut().is_some_and(|track| track.take(frame))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Track>> {
        // A track is exchanged as a whole; one that panicked has lost a frame at most.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One file. It and its thread are made with the first key frame: most links never carry a screen.
struct Track {
    path: PathBuf,
    file: Output,
    /// Frames left out since the last one that could be used.
    skipped: u32,
    /// Whether only a key frame can follow.
    broken: bool,
    teller: Teller,
    writing: Sender<()>,
}

enum Output {
    NotYet,
    Open(SyncSender<(Bytes, u32)>),
    Failed,
}

impl Track {
    fn take(&mut self, frame: &AssembledFrame) -> bool {
        if self.broken && !frame.key {
            self.skipped += 1;
            return self.skipped % KEY_ASKED == 1;
        }
        self.broken = false;
        self.skipped = 0;
        if matches!(self.file, Output::NotYet) {
            self.file = self.open();
        }
        let Output::Open(queue) = &self.file else { return false };
        match queue.try_send((frame.data.clone(), frame.timestamp)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                tracing::warn!(path = %self.path.display(), "the disk is too slow: pictures are missing in a recording");
                self.broken = true;
            }
            // Its thread has said why.
            Err(TrySendError::Disconnected(_)) => self.file = Output::Failed,
        }
        false
    }

    fn open(&self) -> Output {
        let (queue, frames) = sync_channel(WAITING);
        let (path, teller, writing) = (self.path.clone(), self.teller.clone(), self.writing.clone());
        let body = move || {
            if let Err(error) = write_all(&path, &frames) {
                teller.tell(problem("recording", &format!("{}: {error}", path.display())));
            }
            drop(writing);
        };
        match std::thread::Builder::new().name("snug-record".into()).spawn(body) {
            Ok(_) => Output::Open(queue),
            Err(error) => {
                let what = format!("no thread for a recording: {error}; close other programs");
                self.teller.tell(problem("no_threads", &what));
                Output::Failed
            }
        }
    }
}

/// Ends with the queue, or with the disk.
fn write_all(path: &Path, frames: &Receiver<(Bytes, u32)>) -> Result<(), RecordError> {
    let mut recorder = IvfRecorder::new(BufWriter::new(create_beside(path)?));
    let mut safe = Instant::now();
    for (data, timestamp) in frames {
        recorder.write(&data, timestamp)?;
        if safe.elapsed() >= CHECKPOINT {
            safe = Instant::now();
            recorder.checkpoint()?;
        }
    }
    recorder.finish()?;
    Ok(())
}

/// A name as the part of a file's name that cannot lead out of the folder or need quoting.
fn file_name(name: &str) -> String {
    let kept: String =
        name.chars().take(NAME).map(|of| if of.is_alphanumeric() || of == '-' { of } else { '_' }).collect();
    if kept.is_empty() { "participant".to_owned() } else { kept }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop anywhere")]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::api::Event;

    const KEY: [u8; 11] = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0, 7];

    fn frame(key: bool, timestamp: u32) -> AssembledFrame {
        let data = Bytes::copy_from_slice(if key { &KEY } else { &[0x11, 2] });
        AssembledFrame { data, timestamp, key, size: None, temporal: 0, arrival: Instant::now() }
    }

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("snug-record-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_file_begins_with_a_key_frame_which_is_asked_for() {
        let (events, mut told) = mpsc::channel(4);
        let folder = folder("begins");
        let user: UserId = "AAAAAAAAAAAAAAAAAAAAAA".parse().unwrap();
        let mut recording = Recording::new(folder.clone(), Teller::new(events)).unwrap();
        let taps = Taps::default();
        assert!(!taps.camera.take(&frame(false, 0)), "nobody records");
        let sound = recording.start(user, "A/na", &taps);
        assert_eq!(sound, folder.join("A_na-AAAAAAAAAAAAAAAAAAAAAA.wav"));
        assert!(taps.camera.take(&frame(false, 0)));
        assert!(!taps.camera.take(&frame(false, 3000)), "asked once already");
        for (number, key) in [true, false, false].into_iter().enumerate() {
            assert!(!taps.camera.take(&frame(key, 6000 + 3000 * number as u32)));
        }
        taps.close();
        assert!(
            recording.start(user, "A/na", &Taps::default()).ends_with("A_na-AAAAAAAAAAAAAAAAAAAAAA-2.wav")
        );
        recording.finish();
        let file = std::fs::read(folder.join("A_na-AAAAAAAAAAAAAAAAAAAAAA.ivf")).unwrap();
        assert_eq!(file[24..32], [0x28, 0x23, 0, 0, 3, 0, 0, 0], "three frames of 3,000 ticks");
        assert!(!folder.join("A_na-AAAAAAAAAAAAAAAAAAAAAA-screen.ivf").exists());
        assert!(told.try_recv().is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn recording_again_into_the_same_folder_leaves_the_first_recording_alone() {
        let folder = folder("again");
        let user: UserId = "AAAAAAAAAAAAAAAAAAAAAA".parse().unwrap();
        for (frames, sound) in
            [(3, "Ana-AAAAAAAAAAAAAAAAAAAAAA.wav"), (1, "Ana-AAAAAAAAAAAAAAAAAAAAAA-2.wav")]
        {
            let (events, _told) = mpsc::channel(4);
            let mut recording = Recording::new(folder.clone(), Teller::new(events)).unwrap();
            let taps = Taps::default();
            assert!(recording.start(user, "Ana", &taps).ends_with(sound));
            for number in 0..frames {
                taps.camera.take(&frame(number == 0, number * 3000));
            }
            taps.close();
            recording.finish();
        }
        for (name, frames) in [("Ana-AAAAAAAAAAAAAAAAAAAAAA.ivf", 3), ("Ana-AAAAAAAAAAAAAAAAAAAAAA-2.ivf", 1)]
        {
            assert_eq!(std::fs::read(folder.join(name)).unwrap()[28], frames, "{name}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_once_and_the_call_goes_on() {
        let (events, mut told) = mpsc::channel(4);
        let folder = folder("gone");
        let user: UserId = "AAAAAAAAAAAAAAAAAAAAAA".parse().unwrap();
        let mut recording = Recording::new(folder.clone(), Teller::new(events)).unwrap();
        let taps = Taps::default();
        recording.start(user, "", &taps);
        std::fs::remove_dir_all(folder).unwrap();
        taps.camera.take(&frame(true, 0));
        let event = told.blocking_recv().unwrap();
        assert!(matches!(event, Event::Problem { code, .. } if code == "recording"));
        for number in 1..500 {
            taps.camera.take(&frame(true, number * 3000));
        }
        taps.close();
        recording.finish();
        assert!(told.try_recv().is_err());
    }
}
