//! The shared screen's thread: there only while it is shared. It takes pictures, has them encoded once, and hands them to the fan-out.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use snug_media_proto::section::Section;
use snug_video::{CodecError, ScreenEncoder, SourceError, Stop, VideoCodecs, VideoSource};

use crate::fanout::Fanout;

/// Opens a screen, a window, or what stands for one.
pub type OpenScreen = Arc<dyn Fn() -> Result<Box<dyn VideoSource>, SourceError> + Send + Sync>;

/// Why a screen is no longer seen.
#[derive(Debug)]
pub(crate) enum ScreenFailure {
    Source(SourceError),
    Encoder(CodecError),
}

type Tell = Arc<dyn Fn(ScreenFailure) + Send + Sync>;

/// What can be shared of the screen.
pub(crate) struct Screen {
    open: OpenScreen,
    size: (u32, u32),
    codecs: Arc<dyn VideoCodecs>,
    epoch: Instant,
    fanout: Fanout,
    tell: Tell,
    sharing: Option<Sharing>,
}

struct Sharing {
    stop: Stop,
    thread: JoinHandle<()>,
}

impl Screen {
    /// Shares nothing yet. `tell` hears why sharing ended by itself.
    pub(crate) fn new(
        open: OpenScreen,
        size: (u32, u32),
        codecs: Arc<dyn VideoCodecs>,
        epoch: Instant,
        fanout: Fanout,
        tell: Tell,
    ) -> Self {
        Self { open, size, codecs, epoch, fanout, tell, sharing: None }
    }

    /// Starts or ends sharing. A source that is slow to open, as one that asks the user, holds up only its own thread.
    pub(crate) fn set_shared(&mut self, shared: bool) -> std::io::Result<()> {
        if !shared {
            self.sharing = None;
            return Ok(());
        }
        if self.sharing.as_ref().is_some_and(|sharing| !sharing.thread.is_finished()) {
            return Ok(());
        }
        let stop = Stop::default();
        let stopped = stop.clone();
        let (open, tell, fanout) = (Arc::clone(&self.open), Arc::clone(&self.tell), self.fanout.clone());
        let encoder = ScreenEncoder::new(Arc::clone(&self.codecs), self.epoch);
        let thread = std::thread::Builder::new().name("snug-screen".into()).spawn(move || {
            if let Err(failure) = run(&open, encoder, &fanout, &stopped) {
                tell(failure);
            }
        })?;
        self.sharing = Some(Sharing { stop, thread });
        Ok(())
    }

    /// The picture's size while it is shared.
    pub(crate) fn shared_size(&self) -> Option<(u32, u32)> {
        self.sharing.as_ref().map(|_| self.size)
    }

    /// Whether sharing ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.sharing.as_ref().is_some_and(|sharing| sharing.thread.is_finished())
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        // Not waited for: a dialog of the system may still be open. The thread ends with the next picture.
        self.stop.raise();
    }
}

fn run(
    open: &OpenScreen,
    mut encoder: ScreenEncoder,
    fanout: &Fanout,
    stop: &Stop,
) -> Result<(), ScreenFailure> {
    let mut source = open().map_err(ScreenFailure::Source)?;
    loop {
        let picture = match source.next_frame(stop) {
            Ok(Some(picture)) => picture,
            Ok(None) => return Ok(()),
            Err(error) if error.is_final() => return Err(ScreenFailure::Source(error)),
            Err(error) => {
                tracing::debug!(%error, "a picture of the screen is missing");
                continue;
            }
        };
        let (target, key) = fanout.screen_wishes(Instant::now());
        encoder.set_target(target);
        if key {
            encoder.request_key();
        }
        if let Some(frame) = encoder.encode(&picture).map_err(ScreenFailure::Encoder)? {
            fanout.send_picture(Section::Screen, &frame, Instant::now());
        }
    }
}
