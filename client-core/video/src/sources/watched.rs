//! A device that may fail, fall silent or block for ever, behind a [`VideoSource`] that always comes back to its caller.
//!
//! A thread of its own reads the device; the source hands out its newest picture. A device that fails is opened again every second, so that
//! one which is plugged back in returns. One that gives nothing for two seconds is reported and opened again by another thread, since the
//! first may be stuck in the driver: it closes the device when the driver lets go of it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{SourceError, Stop, VideoSource};
use crate::frame::{I420Frame, SharedFrame};

/// Threads that may be stuck in a driver at once; with that many nothing is tried before one returns.
const MOST_READERS: usize = 4;
/// How soon a raised [`Stop`] is seen.
const GLANCE: Duration = Duration::from_millis(100);
/// How long closing waits for a device that is just giving a picture.
const CLOSING: Duration = Duration::from_millis(500);

/// Something that can be opened again and again.
pub(super) trait Device: Send + Sync + 'static {
    fn open(&self) -> Result<Box<dyn Pictures>, SourceError>;
}

/// An open device. Dropping it closes the device.
pub(super) trait Pictures {
    /// Waits for the next picture, for as long as the driver pleases.
    fn next(&mut self) -> Result<I420Frame, SourceError>;
}

/// When to lose patience.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// A device that gives no picture for this long is reported and opened again.
    pub(super) silence: Duration,
    /// Between two attempts to open a device.
    pub(super) reopen: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { silence: Duration::from_secs(2), reopen: Duration::from_secs(1) }
    }
}

/// The source.
pub(super) struct Watched {
    shared: Arc<Shared>,
    /// When there was a picture, an error or a new attempt.
    last: Instant,
}

struct Shared {
    device: Box<dyn Device>,
    patience: Patience,
    newest: Mutex<Newest>,
    changed: Condvar,
    /// The reader that counts; earlier ones end as soon as they can. 0 when the source is closed.
    current: AtomicU64,
    readers: AtomicUsize,
}

#[derive(Default)]
struct Newest {
    frame: Option<SharedFrame>,
    error: Option<SourceError>,
}

impl Watched {
    pub(super) fn start(device: Box<dyn Device>, patience: Patience) -> Result<Self, SourceError> {
        let shared = Arc::new(Shared {
            device,
            patience,
            newest: Mutex::default(),
            changed: Condvar::new(),
            current: AtomicU64::new(0),
            readers: AtomicUsize::new(0),
        });
        spawn(&shared, 1)?;
        Ok(Self { shared, last: Instant::now() })
    }

    /// Gives up the reader that may be stuck, and lets another one try.
    fn replace_reader(&mut self) -> SourceError {
        self.last = Instant::now();
        if self.shared.readers.load(Ordering::Relaxed) >= MOST_READERS {
            return SourceError::Silent;
        }
        let next = self.shared.current.load(Ordering::Relaxed) + 1;
        spawn(&self.shared, next).err().unwrap_or(SourceError::Silent)
    }
}

impl VideoSource for Watched {
    fn next_frame(&mut self, stop: &Stop) -> Result<Option<SharedFrame>, SourceError> {
        let shared = Arc::clone(&self.shared);
        let mut newest = shared.newest.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if stop.is_raised() {
                return Ok(None);
            }
            if let Some(frame) = newest.frame.take() {
                self.last = Instant::now();
                return Ok(Some(frame));
            }
            if let Some(error) = newest.error.take() {
                self.last = Instant::now();
                return Err(error);
            }
            let left = self.shared.patience.silence.saturating_sub(self.last.elapsed());
            if left.is_zero() {
                drop(newest);
                return Err(self.replace_reader());
            }
            let waited = shared.changed.wait_timeout(newest, GLANCE.min(left));
            newest = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let newest = self.shared.newest.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.current.store(0, Ordering::Relaxed);
        self.shared.changed.notify_all();
        // So that the device can be opened again at once. A driver that never returns must not hold up whoever hangs up.
        let reading = |_: &mut Newest| self.shared.readers.load(Ordering::Relaxed) > 0;
        drop(self.shared.changed.wait_timeout_while(newest, CLOSING, reading));
    }
}

fn spawn(shared: &Arc<Shared>, number: u64) -> Result<(), SourceError> {
    shared.current.store(number, Ordering::Relaxed);
    shared.readers.fetch_add(1, Ordering::Relaxed);
    let reader = Reader { shared: Arc::clone(shared), number };
    let failed = |error: std::io::Error| SourceError::Camera(error.to_string());
    thread::Builder::new().name("camera".into()).spawn(move || reader.run()).map(drop).map_err(failed)
}

struct Reader {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Under the lock, so that whoever waits for it cannot miss it.
        let newest = self.shared.newest.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.readers.fetch_sub(1, Ordering::Relaxed);
        drop(newest);
        self.shared.changed.notify_all();
    }
}

impl Reader {
    /// Reads until the source is dropped or another reader has taken over, opening the device again after each failure.
    fn run(self) {
        while self.counts() {
            let Err(error) = self.read_device() else { return };
            // It was there when the source was made, so that it may be again.
            let error = if error.is_final() { SourceError::Gone } else { error };
            self.put(Err(error));
            let newest = self.shared.newest.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = |_: &mut Newest| self.counts();
            drop(self.shared.changed.wait_timeout_while(newest, self.shared.patience.reopen, waiting));
        }
    }

    fn read_device(&self) -> Result<(), SourceError> {
        let mut pictures = self.shared.device.open()?;
        while self.counts() {
            let picture = pictures.next()?;
            self.put(Ok(picture));
        }
        Ok(())
    }

    fn counts(&self) -> bool {
        self.shared.current.load(Ordering::Relaxed) == self.number
    }

    fn put(&self, result: Result<I420Frame, SourceError>) {
        let mut newest = self.shared.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.counts() {
            return;
        }
        match result {
            Ok(frame) => (newest.frame, newest.error) = (Some(Arc::new(frame)), None),
            Err(error) => newest.error = Some(error),
        }
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by it")]
mod tests {
    use std::collections::VecDeque;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::frame::FramePool;

    /// What happens to one opening of the device.
    enum Scene {
        Refused,
        /// Gives a picture for each message, fails when the sender is gone.
        Pictures(Receiver<()>),
    }

    struct Script {
        scenes: Mutex<VecDeque<Scene>>,
        open: Arc<AtomicUsize>,
    }

    struct Playing {
        feed: Receiver<()>,
        open: Arc<AtomicUsize>,
    }

    impl Device for Script {
        fn open(&self) -> Result<Box<dyn Pictures>, SourceError> {
            match self.scenes.lock().unwrap().pop_front() {
                None => Err(SourceError::NoCameras),
                Some(Scene::Refused) => Err(SourceError::Camera("busy".into())),
                Some(Scene::Pictures(feed)) => {
                    self.open.fetch_add(1, Ordering::SeqCst);
                    Ok(Box::new(Playing { feed, open: Arc::clone(&self.open) }))
                }
            }
        }
    }

    impl Pictures for Playing {
        fn next(&mut self) -> Result<I420Frame, SourceError> {
            self.feed.recv().map_err(|_| SourceError::Camera("unplugged".into()))?;
            Ok(FramePool::default().frame(16, 16, Instant::now())?)
        }
    }

    impl Drop for Playing {
        fn drop(&mut self) {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn scene() -> (Sender<()>, Scene) {
        let (feed, fed) = channel();
        (feed, Scene::Pictures(fed))
    }

    fn start(scenes: impl IntoIterator<Item = Scene>, silence_ms: u64) -> (Watched, Arc<AtomicUsize>) {
        let open = Arc::new(AtomicUsize::new(0));
        let script = Script { scenes: Mutex::new(scenes.into_iter().collect()), open: Arc::clone(&open) };
        let patience =
            Patience { silence: Duration::from_millis(silence_ms), reopen: Duration::from_millis(1) };
        (Watched::start(Box::new(script), patience).unwrap(), open)
    }

    #[test]
    fn a_camera_that_fails_is_opened_again_until_it_gives_pictures() {
        let (first, one) = scene();
        let (second, two) = scene();
        let (mut source, _) = start([one, Scene::Refused, two], 60_000);
        let stop = Stop::default();
        first.send(()).unwrap();
        assert!(matches!(source.next_frame(&stop), Ok(Some(_))));
        drop(first);
        second.send(()).unwrap();
        let mut codes = Vec::new();
        loop {
            match source.next_frame(&stop) {
                Ok(Some(_)) => break,
                Err(error) => codes.push(error.code()),
                Ok(None) => panic!("nobody stopped it"),
            }
        }
        // Both failures, or the newer one alone when nobody asked in between.
        assert!(codes.iter().all(|code| *code == "camera_failed") && codes.len() <= 2, "{codes:?}");
    }

    #[test]
    fn a_camera_that_is_unplugged_is_waited_for() {
        let (first, one) = scene();
        let (mut source, _) = start([one], 60_000);
        let stop = Stop::default();
        drop(first);
        loop {
            let error = source.next_frame(&stop).unwrap_err();
            assert!(!error.is_final(), "{error}");
            if error.code() == "camera_gone" {
                break;
            }
        }
    }

    #[test]
    fn a_silent_camera_is_told_and_opened_again_beside_the_stuck_driver() {
        let (stuck, one) = scene();
        let (second, two) = scene();
        let (mut source, open) = start([one, two], 30);
        let stop = Stop::default();
        assert!(matches!(source.next_frame(&stop), Err(SourceError::Silent)));
        second.send(()).unwrap();
        while !matches!(source.next_frame(&stop), Ok(Some(_))) {}
        // The driver comes back: its picture is of the past, and it closes its device.
        stuck.send(()).unwrap();
        while open.load(Ordering::SeqCst) > 1 {
            thread::yield_now();
        }
        drop(second);
    }

    #[test]
    fn drivers_that_never_return_cost_a_bounded_number_of_threads() {
        let (feeds, scenes): (Vec<_>, Vec<_>) = (0..10).map(|_| scene()).unzip();
        let (mut source, open) = start(scenes, 5);
        let stop = Stop::default();
        for _ in 0..10 {
            assert!(matches!(source.next_frame(&stop), Err(SourceError::Silent)));
        }
        assert!(open.load(Ordering::SeqCst) <= MOST_READERS);
        drop(feeds);
    }

    #[test]
    fn a_camera_is_closed_when_nobody_looks_any_more() {
        let (feed, one) = scene();
        let (source, open) = start([one], 60_000);
        while open.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        feed.send(()).unwrap();
        feed.send(()).unwrap();
        let closing = thread::spawn(move || drop(source));
        // As a camera does, it goes on giving pictures until it is closed.
        while open.load(Ordering::SeqCst) > 0 {
            let _ = feed.send(());
            thread::yield_now();
        }
        closing.join().unwrap();
    }

    #[test]
    fn who_is_told_to_stop_does_not_wait_for_the_camera() {
        let (_feed, one) = scene();
        let (mut source, _) = start([one], 60_000);
        let stop = Stop::default();
        stop.raise();
        assert!(matches!(source.next_frame(&stop), Ok(None)));
    }
}
