//! Which camera, microphone and speaker a call uses: a thread that opens, closes and exchanges them, because all of that may block, and
//! another that looks every two seconds what is plugged in. Nothing of it renegotiates: links go on with whatever source there is.
//!
//! A chosen camera that vanishes is replaced by another one until it is back; for microphone and speaker the [`AudioIo`] does the same.
//!
//! [`AudioIo`]: snug_audio::io::AudioIo

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use snug_audio::AudioEngine;
use snug_video::{SourceError, Stop, VideoCodecs, VideoSource};

use crate::api::Event;
use crate::camera::{Camera, CameraEvent, CameraState, Encoding};
use crate::devices::{Device, DeviceKind, Devices, unknown_device};
use crate::fanout::Fanout;
use crate::session::problem;

/// Between two looks at what is plugged in.
const LOOK: Duration = Duration::from_secs(2);
/// Orders that wait; a session that gives more is told so.
const ORDERS: usize = 64;

/// Opens the camera with this id, or the default one, or what stands for one; each time that the camera is switched on.
pub type OpenCamera = Arc<dyn Fn(Option<&str>) -> Result<Box<dyn VideoSource>, SourceError> + Send + Sync>;

/// A camera, or what stands for one.
pub struct CameraConfig {
    /// Opens it.
    pub open: OpenCamera,
    /// Its id, where there are several.
    pub chosen: Option<String>,
    /// Whether the call starts with it switched on.
    pub enabled: bool,
}

/// What can be chosen from during a call.
pub struct DevicesConfig {
    /// The machine's devices.
    pub devices: Arc<dyn Devices>,
    /// The microphone that the call starts with, by its id.
    pub microphone: Option<String>,
    /// The speaker that the call starts with, by its id.
    pub speaker: Option<String>,
}

/// What the session asks for.
pub(crate) enum Order {
    SwitchCamera(bool),
    Select(DeviceKind, Option<String>),
    Seen(Vec<Device>),
    Stop,
}

type Tell = Arc<dyn Fn(Event) + Send + Sync>;

/// What the thread works with.
pub(crate) struct Wiring {
    pub(crate) camera: Option<CameraConfig>,
    pub(crate) devices: Option<DevicesConfig>,
    pub(crate) audio: Arc<AudioEngine>,
    pub(crate) codecs: Arc<dyn VideoCodecs>,
    /// Where the timestamps of all sources start.
    pub(crate) epoch: Instant,
    pub(crate) fanout: Fanout,
    pub(crate) tell: Tell,
}

/// The session's end. Dropping it closes the camera.
pub(crate) struct Switchboard {
    orders: Option<SyncSender<Order>>,
    camera: CameraState,
    has_camera: bool,
    is_on: bool,
    looking: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Switchboard {
    pub(crate) fn start(wiring: Wiring) -> std::io::Result<Self> {
        let (orders, waiting) = sync_channel(ORDERS);
        let (camera, looking) = (CameraState::default(), Stop::default());
        let has_camera = wiring.camera.is_some();
        let on = wiring.camera.as_ref().is_some_and(|camera| camera.enabled);
        if on {
            camera.set_starting();
        }
        if let Some(config) = &wiring.devices {
            let (devices, orders, stop) = (Arc::clone(&config.devices), orders.clone(), looking.clone());
            // Not waited for: a sound system may take seconds to answer.
            std::thread::Builder::new()
                .name("snug-look".into())
                .spawn(move || look(&*devices, &orders, &stop))?;
        }
        let state = camera.clone();
        let thread = std::thread::Builder::new().name("snug-switch".into()).spawn(move || {
            Board::new(wiring, state, on).run(&waiting);
        })?;
        Ok(Self { orders: Some(orders), camera, has_camera, is_on: on, looking, thread: Some(thread) })
    }

    /// Says whether there was room for it.
    pub(crate) fn order(&mut self, order: Order) -> bool {
        if let Order::SwitchCamera(on) = order {
            self.is_on = on;
            if on {
                self.camera.set_starting();
            }
        }
        self.orders.as_ref().is_some_and(|orders| orders.try_send(order).is_ok())
    }

    /// Whether the others should be told that there is a picture of ours.
    pub(crate) fn is_camera_shown(&self) -> bool {
        self.is_on && self.camera.is_shown()
    }

    /// Width and height of the camera's pictures in pixels, while there are any.
    pub(crate) fn camera_size(&self) -> Option<(u32, u32)> {
        self.camera.size().filter(|_| self.is_on)
    }

    /// Whether there is anything to switch on.
    pub(crate) fn has_camera(&self) -> bool {
        self.has_camera
    }
}

impl Drop for Switchboard {
    fn drop(&mut self) {
        self.looking.raise();
        let stopping = self.orders.take().map(|orders| orders.send(Order::Stop));
        if let (Some(Ok(())), Some(thread)) = (stopping, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn look(devices: &dyn Devices, orders: &SyncSender<Order>, stop: &Stop) {
    let mut before = None;
    loop {
        let list = devices.list();
        // What does not fit is offered again at the next look.
        if before.as_ref() != Some(&list) && orders.try_send(Order::Seen(list.clone())).is_ok() {
            before = Some(list);
        }
        if stop.wait_until(Instant::now() + LOOK) {
            return;
        }
    }
}

/// What the thread owns.
struct Board {
    wiring: Wiring,
    state: CameraState,
    on: bool,
    /// Chosen by id: camera, microphone, speaker.
    chosen: [Option<String>; 3],
    running: Option<Running>,
    /// Kept while the camera is off.
    encoding: Option<Encoding>,
    /// Plugged in at the last look; `None` before it.
    seen: Option<Vec<Device>>,
}

struct Running {
    camera: Camera,
    /// What it was opened with.
    id: Option<String>,
}

impl Board {
    fn new(mut wiring: Wiring, state: CameraState, on: bool) -> Self {
        let camera = wiring.camera.as_mut().and_then(|camera| camera.chosen.take());
        let sound = wiring.devices.as_mut();
        let (microphone, speaker) =
            sound.map_or((None, None), |config| (config.microphone.take(), config.speaker.take()));
        let chosen = [camera, microphone, speaker];
        Self { wiring, state, on, chosen, running: None, encoding: None, seen: None }
    }

    fn run(mut self, orders: &Receiver<Order>) {
        self.settle();
        while let Ok(order) = orders.recv() {
            match order {
                Order::Stop => break,
                Order::SwitchCamera(on) => {
                    self.on = on;
                    self.settle();
                }
                Order::Select(kind, id) => self.select(kind, id),
                Order::Seen(list) => {
                    (self.wiring.tell)(Event::DevicesChanged { devices: list.clone() });
                    self.seen = Some(list);
                    self.settle();
                }
            }
        }
        self.close();
    }

    fn select(&mut self, kind: DeviceKind, id: Option<String>) {
        if let (Some(id), Some(seen)) = (&id, &self.seen)
            && !seen.iter().any(|device| device.is_called(kind, id))
        {
            return self.tell_problem("unknown_device", &unknown_device(kind, id, seen));
        }
        let Some(config) = self.wiring.devices.as_ref().filter(|_| kind != DeviceKind::Camera) else {
            if kind != DeviceKind::Camera {
                return self.tell_problem(
                    "no_device_list",
                    &"the sound of this call was given as it is: choose it before the call",
                );
            }
            self.chosen[kind as usize] = id;
            return self.settle();
        };
        self.chosen[kind as usize] = id;
        let [_, microphone, speaker] = &self.chosen;
        let sound = config.devices.sound(microphone.as_deref(), speaker.as_deref());
        if let Err(error) = self.wiring.audio.set_io(sound) {
            self.tell_problem("audio_busy", &error);
        }
    }

    /// Makes the camera what it should be: off, the chosen one, or another one in its place.
    fn settle(&mut self) {
        if !self.on {
            self.close();
            return self.state.set_off();
        }
        let wanted = self.wanted_camera();
        let stays = |running: &Running| running.id == wanted && !running.camera.has_ended();
        if self.running.as_ref().is_some_and(stays) {
            return;
        }
        // First, because a device can be opened only once.
        self.close();
        if let (Some(chosen), Some(wanted)) = (&self.chosen[0], &wanted)
            && chosen != wanted
        {
            let message = format!("the camera {chosen:?} is not there: {wanted:?} is used until it returns");
            self.tell_problem("camera_gone", &message);
        }
        self.state.set_starting();
        if let Err(failure) = self.open(wanted) {
            self.state.set_failed();
            (self.wiring.tell)(failure);
        }
    }

    /// The chosen camera, unless it is missing and there is another one.
    fn wanted_camera(&self) -> Option<String> {
        let chosen = self.chosen[0].as_ref()?;
        let mut cameras =
            self.seen.iter().flatten().filter(|device| device.kind == DeviceKind::Camera).peekable();
        let first = cameras.peek().map(|device| device.id.clone());
        let is_there = cameras.any(|device| device.is_called(DeviceKind::Camera, chosen));
        first.filter(|_| !is_there).or_else(|| Some(chosen.clone()))
    }

    fn open(&mut self, id: Option<String>) -> Result<(), Event> {
        let Wiring { camera, codecs, epoch, fanout, tell, .. } = &self.wiring;
        let none = || problem("no_camera", &"this call was started without a camera; start it with one");
        let source = (camera.as_ref().ok_or_else(none)?.open)(id.as_deref())
            .map_err(|error| problem(error.code(), &error))?;
        let encoding = self.encoding.take().unwrap_or_else(|| Encoding::new(Arc::clone(codecs), *epoch));
        let told = Arc::clone(tell);
        let camera = Camera::start(source, encoding, fanout.clone(), self.state.clone(), move |event| {
            told(camera_problem(&event));
        })
        .map_err(|error| {
            problem("no_threads", &format!("no thread for the camera ({error}); close other programs"))
        })?;
        self.running = Some(Running { camera, id });
        Ok(())
    }

    fn close(&mut self) {
        if let Some(running) = self.running.take() {
            self.encoding = running.camera.close();
        }
    }

    fn tell_problem(&self, code: &str, message: &dyn std::fmt::Display) {
        (self.wiring.tell)(problem(code, message));
    }
}

fn camera_problem(event: &CameraEvent) -> Event {
    match event {
        CameraEvent::Failed(error) => problem(error.code(), error),
        CameraEvent::EncoderFailed(error) => problem("video_encoder", error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop anywhere")]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{RecvTimeoutError, channel};

    use snug_audio::io::{AudioIo, PacedIo, Sink, Source};
    use snug_audio::{AudioConfig, Processing};
    use snug_video::SharedFrame;
    use snug_video::sources::PatternSource;

    use super::*;

    /// A camera whose light can be seen from outside.
    struct Lit(PatternSource, Arc<AtomicUsize>);

    impl VideoSource for Lit {
        fn next_frame(&mut self, stop: &Stop) -> Result<Option<SharedFrame>, SourceError> {
            self.0.next_frame(stop)
        }
    }

    impl Drop for Lit {
        fn drop(&mut self) {
            self.1.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[derive(Default)]
    struct Room {
        /// Ids with which cameras were opened; `-` is the default one.
        opened: Mutex<Vec<String>>,
        lit: Arc<AtomicUsize>,
        sound: Mutex<Vec<[Option<String>; 2]>>,
    }

    impl Devices for Room {
        fn list(&self) -> Vec<Device> {
            list(&["a", "b"])
        }

        fn sound(&self, microphone: Option<&str>, speaker: Option<&str>) -> Box<dyn AudioIo> {
            self.sound.lock().unwrap().push([microphone, speaker].map(|id| id.map(str::to_owned)));
            Box::new(PacedIo::new(Source::Silence, Sink::Discard))
        }
    }

    fn list(cameras: &[&str]) -> Vec<Device> {
        let camera = |id: &&str| (DeviceKind::Camera, (*id).to_owned());
        let sound = [(DeviceKind::Microphone, "m".to_owned()), (DeviceKind::Speaker, "s".to_owned())];
        let all = cameras.iter().map(camera).chain(sound);
        all.map(|(kind, id)| Device { kind, name: id.to_uppercase(), id, default: false }).collect()
    }

    struct Stage {
        board: Switchboard,
        room: Arc<Room>,
        events: Receiver<Event>,
    }

    impl Stage {
        fn new(chosen: Option<&str>, enabled: bool, with_devices: bool) -> Self {
            let room = Arc::new(Room::default());
            let (tell, events) = channel();
            let audio = AudioConfig {
                io: Box::new(PacedIo::new(Source::Silence, Sink::Discard)),
                processing: Processing::NONE,
                bitrate: 32_000,
                muted: true,
            };
            let cameras = Arc::clone(&room);
            let open: OpenCamera = Arc::new(move |id| {
                cameras.opened.lock().unwrap().push(id.unwrap_or("-").to_owned());
                if id == Some("broken") {
                    return Err(SourceError::NoCameras);
                }
                cameras.lit.fetch_add(1, Ordering::SeqCst);
                Ok(Box::new(Lit(PatternSource::new(320, 180, 30)?, Arc::clone(&cameras.lit))))
            });
            let devices = with_devices.then(|| DevicesConfig {
                devices: Arc::<Room>::clone(&room),
                microphone: Some("m".to_owned()),
                speaker: None,
            });
            let board = Switchboard::start(Wiring {
                camera: Some(CameraConfig { open, chosen: chosen.map(str::to_owned), enabled }),
                devices,
                audio: Arc::new(AudioEngine::start(audio, |_| {}, |_| {}).unwrap()),
                codecs: Arc::new(NoCodecs),
                epoch: Instant::now(),
                fanout: Fanout::default(),
                tell: Arc::new(move |event| {
                    let _ = tell.send(event);
                }),
            });
            Self { board: board.unwrap(), room, events }
        }

        /// The next problem's code and sentence.
        fn problem(&self) -> (String, String) {
            loop {
                match self.events.recv_timeout(Duration::from_secs(10)) {
                    Ok(Event::Problem { code, message }) => return (code, message),
                    Ok(_) => {}
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                        panic!("no problem was told")
                    }
                }
            }
        }

        fn opened(&self, wanted: &[&str]) {
            self.until(&format!("{wanted:?} are opened"), || *self.room.opened.lock().unwrap() == wanted);
        }

        fn until(&self, what: &str, so: impl Fn() -> bool) {
            let start = Instant::now();
            while !so() {
                assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }

        fn lit(&self) -> usize {
            self.room.lit.load(Ordering::SeqCst)
        }
    }

    /// Nobody wants a layer, so that nothing is encoded.
    struct NoCodecs;

    impl VideoCodecs for NoCodecs {
        fn encoder(
            &self,
            _: &snug_video::EncoderSettings,
        ) -> Result<Box<dyn snug_video::VideoEncoder>, snug_video::CodecError> {
            panic!("nobody asked for a picture")
        }

        fn decoder(&self) -> Result<Box<dyn snug_video::VideoDecoder>, snug_video::CodecError> {
            panic!("nobody sent a picture")
        }
    }

    #[test]
    fn a_chosen_camera_that_vanishes_is_replaced_until_it_is_back() {
        let mut stage = Stage::new(Some("b"), true, false);
        stage.opened(&["b"]);
        assert!(stage.board.order(Order::Seen(list(&["a", "b"]))));
        assert!(stage.board.order(Order::Seen(list(&["a"]))));
        stage.opened(&["b", "a"]);
        let (code, message) = stage.problem();
        assert_eq!(code, "camera_gone");
        assert_eq!(message, r#"the camera "b" is not there: "a" is used until it returns"#);
        assert!(stage.board.order(Order::Seen(list(&["a", "b"]))));
        stage.opened(&["b", "a", "b"]);
        assert_eq!(stage.lit(), 1, "one camera at a time");
        // With no other one it is waited for, which is the source's own affair.
        assert!(stage.board.order(Order::Seen(list(&[]))));
        assert!(stage.board.order(Order::Seen(list(&["b"]))));
        stage.opened(&["b", "a", "b"]);
    }

    #[test]
    fn a_camera_that_is_switched_off_is_closed() {
        let mut stage = Stage::new(None, true, false);
        stage.until("there is a picture", || stage.board.camera_size() == Some((320, 180)));
        assert!(stage.board.is_camera_shown());
        assert!(stage.board.order(Order::SwitchCamera(false)));
        assert!(!stage.board.is_camera_shown() && stage.board.camera_size().is_none(), "at once");
        stage.until("the light is off", || stage.lit() == 0);
        assert!(stage.board.order(Order::SwitchCamera(true)));
        assert!(stage.board.is_camera_shown(), "at once");
        stage.opened(&["-", "-"]);
        stage.until("there is a picture again", || stage.board.camera_size().is_some());
        let room = Arc::clone(&stage.room);
        drop(stage);
        assert_eq!(room.lit.load(Ordering::SeqCst), 0, "the end of the call closes it");
    }

    #[test]
    fn another_camera_is_taken_during_the_call() {
        let mut stage = Stage::new(None, false, false);
        assert!(!stage.board.is_camera_shown() && stage.board.has_camera());
        assert!(stage.board.order(Order::Select(DeviceKind::Camera, Some("b".into()))));
        assert!(stage.board.order(Order::SwitchCamera(true)));
        stage.opened(&["b"]);
        assert!(stage.board.order(Order::Select(DeviceKind::Camera, None)));
        stage.opened(&["b", "-"]);
        assert!(stage.board.order(Order::Select(DeviceKind::Camera, Some("broken".into()))));
        assert_eq!(stage.problem().0, "camera_missing");
        stage.until("the others are told", || !stage.board.is_camera_shown());
    }

    #[test]
    fn microphone_and_speaker_are_chosen_from_what_there_is() {
        let mut stage = Stage::new(None, false, true);
        let seen = stage.events.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(seen, Event::DevicesChanged { devices: list(&["a", "b"]) });
        assert!(stage.board.order(Order::Select(DeviceKind::Speaker, Some("desk".into()))));
        let (code, message) = stage.problem();
        assert_eq!(
            (code.as_str(), message.as_str()),
            ("unknown_device", r#"there is no speaker "desk"; choose one of "s" (S)"#)
        );
        assert!(stage.board.order(Order::Select(DeviceKind::Speaker, Some("s".into()))));
        assert!(stage.board.order(Order::Select(DeviceKind::Microphone, None)));
        let ids = |microphone: Option<&str>, speaker: Option<&str>| {
            [microphone, speaker].map(|id| id.map(str::to_owned))
        };
        let wanted = [ids(Some("m"), Some("s")), ids(None, Some("s"))];
        stage.until("both are opened", || *stage.room.sound.lock().unwrap() == wanted);
        assert!(stage.room.opened.lock().unwrap().is_empty(), "the camera stays off");
    }

    #[test]
    fn a_shell_with_sound_of_its_own_is_told_that_there_is_nothing_to_choose() {
        let mut stage = Stage::new(None, false, false);
        assert!(stage.board.order(Order::Select(DeviceKind::Microphone, None)));
        assert_eq!(stage.problem().0, "no_device_list");
    }
}
