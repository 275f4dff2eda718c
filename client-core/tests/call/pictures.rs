//! Pictures of every shape, cameras that are turned, and viewers that ask for key frames all the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use snug_core::video::sources::{PatternSource, SourceError, Stop, VideoSource};
use snug_core::video::{
    CodecError, EncoderSettings, I420Frame, SharedFrame, VideoCodecs, VideoDecoder, VideoEncoder, Vp8Codecs,
};
use snug_core::{Command, Event, LinkState, OpenCamera, Snapshot};
use snug_media_proto::layer::Layer;

use crate::stage::{Person, Relay, With};

/// Upright, lying, odd ones out: what phones send, and what nobody does.
const SHAPES: [Size; 16] = [
    (640, 360),
    (360, 640),
    (352, 640),
    (270, 480),
    (240, 640),
    (180, 320),
    (300, 400),
    (16, 16),
    (720, 1280),
    (1280, 720),
    (64, 1024),
    (1024, 64),
    (362, 642),
    (16, 2048),
    (1080, 1920),
    (320, 180),
];

/// A camera whose pictures change their size from one to the next, as a phone's that is turned.
#[derive(Clone)]
struct Turning {
    size: Arc<Mutex<Size>>,
    source: Arc<Mutex<Option<(Size, PatternSource)>>>,
}

/// Width and height.
type Size = (u32, u32);

impl Turning {
    fn new(size: Size) -> Self {
        Self { size: Arc::new(Mutex::new(size)), source: Arc::default() }
    }

    fn turn(&self, size: Size) {
        *self.size.lock().expect("not poisoned") = size;
    }

    fn open(&self) -> OpenCamera {
        let camera = self.clone();
        Arc::new(move |_| Ok(Box::new(camera.clone())))
    }
}

impl VideoSource for Turning {
    fn next_frame(&mut self, stop: &Stop) -> Result<Option<SharedFrame>, SourceError> {
        let size = *self.size.lock().expect("not poisoned");
        let mut source = self.source.lock().expect("not poisoned");
        if source.as_ref().is_none_or(|(of, _)| *of != size) {
            *source = Some((size, PatternSource::new(size.0, size.1, 30)?));
        }
        let (_, pattern) = source.as_mut().expect("just made");
        pattern.next_frame(stop)
    }
}

/// Waits until so many more pictures of this size have come from Ana.
async fn sees_more(bo: &Person, size: Size, more: u64) {
    let seen = |snapshot: &Snapshot| {
        let ana = Person::sees(snapshot, "Ana")?;
        (ana.picture_size == size).then_some(ana.pictures)
    };
    let first = bo.shows(&format!("a picture of {size:?}"), |snapshot| seen(snapshot).is_some()).await;
    let first = seen(&first).expect("it was waited for");
    bo.shows(&format!("{more} more of {size:?}"), |snapshot| {
        seen(snapshot).is_some_and(|pictures| pictures >= first + more)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_of_every_shape_keep_coming_and_none_is_counted_lost() {
    let relay = Relay::start();
    let link = relay.link("shapes");
    let camera = Turning::new(SHAPES[0]);
    let ana = Person::with_camera("Ana", &link, With::default(), Some(camera.open()), Arc::new(Vp8Codecs));
    let bo = Person::join("Bo", &link, With::default());
    bo.meets(1).await;
    for tile in [(1280, 720), (320, 180)] {
        bo.shows_all_in(tile);
        for size in SHAPES {
            camera.turn(size);
            let layer = Layer::for_tile(size, (tile.0.into(), tile.1.into())).expect("it is shown");
            sees_more(&bo, layer.picture(size), 10).await;
            let snapshot = ana.engine.snapshot();
            let loss = Person::sees(&snapshot, "Bo").expect("he is there").quality.loss;
            assert!(loss < 0.02, "{loss} of the packets of {size:?} are said to be lost");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_probed_beside_sound_alone_loses_nothing() {
    let relay = Relay::start();
    let link = relay.link("probes");
    let ana = Person::join("Ana", &link, With { camera: true, ..With::default() });
    let bo = Person::join("Bo", &link, With::default());
    sees_more(&bo, (320, 180), 10).await;
    // Little is sent and much would be of use: the path is probed, with padding.
    bo.shows_all_in((1280, 720));
    let start = Instant::now();
    let mut worst: f32 = 0.0;
    while start.elapsed() < Duration::from_secs(12) {
        let snapshot = ana.engine.snapshot();
        worst = worst.max(Person::sees(&snapshot, "Bo").expect("he is there").quality.loss);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(worst < 0.01, "{worst} of the packets are said to be lost");
}

/// Makes pictures and takes none, counting them: its owner asks for key frames without end.
#[derive(Clone, Default)]
struct Insatiable(Arc<AtomicU64>);

impl VideoCodecs for Insatiable {
    fn encoder(&self, settings: &EncoderSettings) -> Result<Box<dyn VideoEncoder>, CodecError> {
        Vp8Codecs.encoder(settings)
    }

    fn decoder(&self) -> Result<Box<dyn VideoDecoder>, CodecError> {
        Ok(Box::new(self.clone()))
    }
}

impl VideoDecoder for Insatiable {
    fn decode(&mut self, _data: &[u8], _at: Instant) -> Result<Option<I420Frame>, CodecError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(CodecError::KeyFrameNeeded)
    }
}

fn key_frames(snapshot: &Snapshot) -> u64 {
    let camera = snapshot.camera;
    camera.low.key_frames + camera.medium.key_frames + camera.high.key_frames
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_is_never_content_has_three_key_frames_in_three_seconds_and_nobody_waits_for_it() {
    let relay = Relay::start();
    let link = relay.link("insatiable");
    let camera = Turning::new((640, 360));
    let ana = Person::with_camera("Ana", &link, With::default(), Some(camera.open()), Arc::new(Vp8Codecs));
    let insatiable = Insatiable::default();
    let greedy = Person::with_camera("Greedy", &link, With::default(), None, Arc::new(insatiable.clone()));
    greedy.meets(1).await;
    ana.shows("a key frame", |snapshot| key_frames(snapshot) > 0).await;
    let (start, before) = (Instant::now(), key_frames(&ana.engine.snapshot()));
    // Another tile each time asks for another layer, too.
    let mut others = 0;
    while start.elapsed() < Duration::from_secs(12) {
        greedy.shows_all_in(if others % 2 == 0 { (1280, 720) } else { (100, 50) });
        others += 1;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let made = key_frames(&ana.engine.snapshot()) - before;
    assert!(insatiable.0.load(Ordering::Relaxed) > 3, "it had something to refuse");
    assert!((4..=15).contains(&made), "{made} key frames in 12 s");

    // Whoever comes meanwhile sees at once.
    let mut bo = Person::join("Bo", &link, With::default());
    let up = |event: &Event| match event {
        Event::Link { state: LinkState::Connected, .. } | Event::FirstPicture { .. } => Some(Instant::now()),
        _ => None,
    };
    bo.told("a link", up).await;
    let connected = Instant::now();
    bo.told("a picture", |event| matches!(event, Event::FirstPicture { .. }).then_some(())).await;
    let waited = connected.elapsed();
    assert!(waited < Duration::from_millis(900), "{waited:?} from the link to the picture");
    greedy.ask(Command::Leave);
}
