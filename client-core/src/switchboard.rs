//! Which camera, microphone and speaker a call uses: a thread that opens, closes and exchanges them, because all of that may block, and
//! another that looks every two seconds what is plugged in. Nothing of it renegotiates: links go on with whatever source there is.
//!
//! A chosen camera that vanishes is replaced by another one until it is back; for microphone and speaker the [`AudioIo`] does the same.
//!
//! [`AudioIo`]: snug_audio::io::AudioIo

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
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

/// An order that was not taken; nothing of it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the devices are still being opened; repeat the command in a moment")]
    Busy,
    #[error("the thread that opens devices has ended; leave the call and join again")]
    Ended,
}

impl Refused {
    /// A word for scripts.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Busy => "devices_busy",
            Self::Ended => "devices_ended",
        }
    }
}

/// The session's end. Dropping it closes the camera.
pub(crate) struct Switchboard {
    orders: Option<SyncSender<Order>>,
    camera: CameraState,
    has_camera: bool,
    /// What the last accepted order makes of the camera.
    is_on: bool,
    /// Orders to switch the camera: accepted here, carried out there.
    switches: u64,
    switched: Arc<AtomicU64>,
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
        let switched = Arc::new(AtomicU64::new(0));
        if let Some(config) = &wiring.devices {
            let (devices, orders, stop) = (Arc::clone(&config.devices), orders.clone(), looking.clone());
            // Not waited for: a sound system may take seconds to answer.
            std::thread::Builder::new()
                .name("snug-look".into())
                .spawn(move || look(&*devices, &orders, &stop))?;
        }
        let (state, done) = (camera.clone(), Arc::clone(&switched));
        let thread = std::thread::Builder::new().name("snug-switch".into()).spawn(move || {
            Board::new(wiring, state, on, done).run(&waiting);
        })?;
        let orders = Some(orders);
        Ok(Self {
            orders,
            camera,
            has_camera,
            is_on: on,
            switches: 0,
            switched,
            looking,
            thread: Some(thread),
        })
    }

    /// What is known of the camera changes with an order that is taken, and with no other.
    pub(crate) fn order(&mut self, order: Order) -> Result<(), Refused> {
        let on = if let Order::SwitchCamera(on) = order { Some(on) } else { None };
        let orders = self.orders.as_ref().ok_or(Refused::Ended)?;
        orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Busy,
            TrySendError::Disconnected(_) => Refused::Ended,
        })?;
        if let Some(on) = on {
            self.is_on = on;
            self.switches += 1;
        }
        Ok(())
    }

    /// Whether the others should be told that there is a picture of ours: there is one, or it has just been asked for.
    pub(crate) fn is_camera_shown(&self) -> bool {
        self.is_on && (self.is_switching() || self.camera.is_shown())
    }

    /// Width and height of the camera's pictures in pixels, while there are any.
    pub(crate) fn camera_size(&self) -> Option<(u32, u32)> {
        self.camera.size().filter(|_| self.is_on && !self.is_switching())
    }

    /// Whether an accepted order to switch the camera has still to be carried out.
    fn is_switching(&self) -> bool {
        self.switched.load(Ordering::Acquire) < self.switches
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
    /// Counts the orders to switch the camera that were carried out.
    switched: Arc<AtomicU64>,
}

struct Running {
    camera: Camera,
    /// What it was opened with.
    id: Option<String>,
}

impl Board {
    fn new(mut wiring: Wiring, state: CameraState, on: bool, switched: Arc<AtomicU64>) -> Self {
        let camera = wiring.camera.as_mut().and_then(|camera| camera.chosen.take());
        let sound = wiring.devices.as_mut();
        let (microphone, speaker) =
            sound.map_or((None, None), |config| (config.microphone.take(), config.speaker.take()));
        let chosen = [camera, microphone, speaker];
        Self { wiring, state, on, chosen, running: None, encoding: None, seen: None, switched }
    }

    fn run(mut self, orders: &Receiver<Order>) {
        self.settle();
        while let Ok(order) = orders.recv() {
            match order {
                Order::Stop => break,
                Order::SwitchCamera(on) => {
                    self.on = on;
                    self.settle();
                    self.switched.fetch_add(1, Ordering::Release);
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
        let before = std::mem::replace(&mut self.chosen[kind as usize], id);
        let [_, microphone, speaker] = &self.chosen;
        let sound = config.devices.sound(microphone.as_deref(), speaker.as_deref());
        if let Err(error) = self.wiring.audio.set_io(sound) {
            // Else the choice of another device would carry this one out later, unasked.
            self.chosen[kind as usize] = before;
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
    use std::sync::atomic::AtomicUsize;
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
        /// Held, it keeps whatever is opened waiting, as a driver may.
        slow: Mutex<()>,
    }

    impl Devices for Room {
        fn list(&self) -> Vec<Device> {
            list(&["a", "b"])
        }

        fn sound(&self, microphone: Option<&str>, speaker: Option<&str>) -> Box<dyn AudioIo> {
            self.sound.lock().unwrap().push([microphone, speaker].map(|id| id.map(str::to_owned)));
            drop(self.slow.lock().unwrap());
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
                drop(cameras.slow.lock().unwrap());
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
        stage.board.order(Order::Seen(list(&["a", "b"]))).unwrap();
        stage.board.order(Order::Seen(list(&["a"]))).unwrap();
        stage.opened(&["b", "a"]);
        let (code, message) = stage.problem();
        assert_eq!(code, "camera_gone");
        assert_eq!(message, r#"the camera "b" is not there: "a" is used until it returns"#);
        stage.board.order(Order::Seen(list(&["a", "b"]))).unwrap();
        stage.opened(&["b", "a", "b"]);
        assert_eq!(stage.lit(), 1, "one camera at a time");
        // With no other one it is waited for, which is the source's own affair.
        stage.board.order(Order::Seen(list(&[]))).unwrap();
        stage.board.order(Order::Seen(list(&["b"]))).unwrap();
        stage.opened(&["b", "a", "b"]);
    }

    #[test]
    fn a_camera_that_is_switched_off_is_closed() {
        let mut stage = Stage::new(None, true, false);
        stage.until("there is a picture", || stage.board.camera_size() == Some((320, 180)));
        assert!(stage.board.is_camera_shown());
        stage.board.order(Order::SwitchCamera(false)).unwrap();
        assert!(!stage.board.is_camera_shown() && stage.board.camera_size().is_none(), "at once");
        stage.until("the light is off", || stage.lit() == 0);
        stage.board.order(Order::SwitchCamera(true)).unwrap();
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
        stage.board.order(Order::Select(DeviceKind::Camera, Some("b".into()))).unwrap();
        stage.board.order(Order::SwitchCamera(true)).unwrap();
        stage.opened(&["b"]);
        stage.board.order(Order::Select(DeviceKind::Camera, None)).unwrap();
        stage.opened(&["b", "-"]);
        stage.board.order(Order::Select(DeviceKind::Camera, Some("broken".into()))).unwrap();
        assert_eq!(stage.problem().0, "camera_missing");
        stage.until("the others are told", || !stage.board.is_camera_shown());
    }

    #[test]
    fn microphone_and_speaker_are_chosen_from_what_there_is() {
        let mut stage = Stage::new(None, false, true);
        let seen = stage.events.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(seen, Event::DevicesChanged { devices: list(&["a", "b"]) });
        stage.board.order(Order::Select(DeviceKind::Speaker, Some("desk".into()))).unwrap();
        let (code, message) = stage.problem();
        assert_eq!(
            (code.as_str(), message.as_str()),
            ("unknown_device", r#"there is no speaker "desk"; choose one of "s" (S)"#)
        );
        stage.board.order(Order::Select(DeviceKind::Speaker, Some("s".into()))).unwrap();
        stage.board.order(Order::Select(DeviceKind::Microphone, None)).unwrap();
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
        stage.board.order(Order::Select(DeviceKind::Microphone, None)).unwrap();
        assert_eq!(stage.problem().0, "no_device_list");
    }

    /// Orders the same again and again until there is no room.
    fn fill(board: &mut Switchboard) {
        let mut taken = 0;
        while board.order(Order::Select(DeviceKind::Camera, None)).is_ok() {
            taken += 1;
            assert!(taken <= ORDERS, "the queue is bounded");
        }
    }

    #[test]
    fn a_camera_that_is_switched_on_without_room_for_the_order_stays_off() {
        let mut stage = Stage::new(None, false, true);
        let room = Arc::clone(&stage.room);
        let slow = room.slow.lock().unwrap();
        stage.board.order(Order::Select(DeviceKind::Microphone, None)).unwrap();
        stage.until("the sound is being opened", || !room.sound.lock().unwrap().is_empty());
        fill(&mut stage.board);
        assert_eq!(stage.board.order(Order::SwitchCamera(true)), Err(Refused::Busy));
        assert!(!stage.board.is_camera_shown() && stage.board.camera_size().is_none());
        drop(slow);
        // With room again the next order counts, and only that.
        stage.until("there is room", || stage.events.try_iter().count() == 0);
        while stage.board.order(Order::Select(DeviceKind::Speaker, Some("s".into()))).is_err() {
            std::thread::yield_now();
        }
        let chosen = [None, Some("s".to_owned())];
        stage.until("the speaker is opened", || room.sound.lock().unwrap().last() == Some(&chosen));
        assert!(!stage.board.is_camera_shown() && room.opened.lock().unwrap().is_empty());
        stage.board.order(Order::SwitchCamera(true)).unwrap();
        assert!(stage.board.is_camera_shown());
        stage.opened(&["-"]);
    }

    #[test]
    fn a_camera_that_is_switched_off_without_room_for_the_order_stays_on() {
        let mut stage = Stage::new(None, false, false);
        let room = Arc::clone(&stage.room);
        let slow = room.slow.lock().unwrap();
        stage.board.order(Order::SwitchCamera(true)).unwrap();
        stage.opened(&["-"]);
        assert!(stage.board.is_camera_shown() && stage.board.camera_size().is_none());
        fill(&mut stage.board);
        assert_eq!(stage.board.order(Order::SwitchCamera(false)), Err(Refused::Busy));
        assert!(stage.board.is_camera_shown());
        drop(slow);
        stage.until("there is a picture", || stage.board.camera_size() == Some((320, 180)));
        assert_eq!(stage.lit(), 1);
    }

    #[test]
    fn orders_that_were_accepted_are_what_counts_while_they_wait() {
        let mut stage = Stage::new(None, true, false);
        let room = Arc::clone(&stage.room);
        stage.until("there is a picture", || stage.board.camera_size().is_some());
        let slow = room.slow.lock().unwrap();
        // The thread is held up at the second one; what is behind it is known already.
        for on in [false, true, false, true, false] {
            stage.board.order(Order::SwitchCamera(on)).unwrap();
            assert_eq!(stage.board.is_camera_shown(), on);
            assert_eq!(stage.board.camera_size(), None);
        }
        stage.board.order(Order::SwitchCamera(true)).unwrap();
        drop(slow);
        stage.until("there is a picture again", || stage.board.camera_size().is_some());
        assert!(stage.board.is_camera_shown());
    }

    /// Sound whose devices never open, as those of a sound server that hangs.
    struct Hanging(Arc<Mutex<()>>);

    impl AudioIo for Hanging {
        fn start(
            &mut self,
            _: snug_audio::io::CaptureSink,
            _: snug_audio::io::PlayoutSource,
        ) -> Result<snug_audio::io::Opened, snug_audio::io::IoError> {
            drop(self.0.lock());
            Ok(snug_audio::io::Opened::default())
        }

        fn stop(&mut self) {}

        fn latency(&self) -> Duration {
            Duration::ZERO
        }

        fn check(&mut self) -> Option<snug_audio::io::RestartReason> {
            None
        }
    }

    /// Opens [`Hanging`] sound, and remembers what for.
    #[derive(Default)]
    struct Hangs {
        hold: Arc<Mutex<()>>,
        sound: Mutex<Vec<[Option<String>; 2]>>,
    }

    impl Devices for Hangs {
        fn list(&self) -> Vec<Device> {
            list(&[])
        }

        fn sound(&self, microphone: Option<&str>, speaker: Option<&str>) -> Box<dyn AudioIo> {
            self.sound.lock().unwrap().push([microphone, speaker].map(|id| id.map(str::to_owned)));
            Box::new(Hanging(Arc::clone(&self.hold)))
        }
    }

    #[test]
    fn a_microphone_that_was_refused_is_not_taken_later_with_another_choice() {
        let devices = Arc::new(Hangs::default());
        let (tell, events) = channel();
        let audio = AudioConfig {
            io: Box::new(PacedIo::new(Source::Silence, Sink::Discard)),
            processing: Processing::NONE,
            bitrate: 32_000,
            muted: true,
        };
        let mut board = Switchboard::start(Wiring {
            camera: None,
            devices: Some(DevicesConfig {
                devices: Arc::<Hangs>::clone(&devices),
                microphone: Some("first".to_owned()),
                speaker: None,
            }),
            audio: Arc::new(AudioEngine::start(audio, |_| {}, |_| {}).unwrap()),
            codecs: Arc::new(NoCodecs),
            epoch: Instant::now(),
            fanout: Fanout::default(),
            tell: Arc::new(move |event| drop(tell.send(event))),
        })
        .unwrap();
        let hold = devices.hold.lock().unwrap();
        let choose = |board: &mut Switchboard, kind| {
            // Before the first look everything may be chosen.
            let id = if kind == DeviceKind::Microphone { "m" } else { "s" };
            board.order(Order::Select(kind, Some(id.into()))).unwrap();
        };
        let is_refused = |event: &Event| matches!(event, Event::Problem { code, .. } if code == "audio_busy");
        let mut refused = None;
        for _ in 0..32 {
            choose(&mut board, DeviceKind::Speaker);
            if let Ok(event) = events.recv_timeout(Duration::from_millis(50))
                && is_refused(&event)
            {
                refused = Some(event);
                break;
            }
        }
        assert!(refused.is_some(), "a full queue is an answer");
        choose(&mut board, DeviceKind::Microphone);
        while !is_refused(&events.recv_timeout(Duration::from_secs(10)).unwrap()) {}
        drop(hold);
        let last = || devices.sound.lock().unwrap().last().cloned();
        let start = Instant::now();
        let wanted = Some([Some("first".to_owned()), Some("s".to_owned())]);
        while last() != wanted {
            assert!(start.elapsed() < Duration::from_secs(10), "{:?}", last());
            choose(&mut board, DeviceKind::Speaker);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
