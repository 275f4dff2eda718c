//! What each link is sent of our camera and screen, and what the encoders make: one plan for the whole uplink.
//! It never looks at packets; estimates come in, a plan goes out.
//!
//! 1. Sound is taken off every link's budget first, and is never reduced for a picture.
//! 2. Each link has a rung of the ladder High, Medium, Medium's base, Low, none. It goes down at once, and up a rung when there was room for 2 s.
//! 3. When all together are more than the uplink, the link on the highest rung goes down first.
//! 4. The screen's rate goes down at once, too, and up when there was room for 2 s.
//! 5. An encoder's rate is what every link on its layer can take; a link much slower than the others takes a lower layer instead.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use snug_media_proto::layer::Layer;

use crate::channel::Tile;
use crate::input::LinkId;

/// A link without an estimate is given this, in bit/s.
const START_BPS: u64 = 600_000;
/// Opus for all links, in bit/s; less where each packet carries two earlier ones, as loss is then answered by repeating.
const AUDIO_BPS: u32 = 32_000;
const LOSSY_AUDIO_BPS: u32 = 24_000;
/// Headers of 50 sound packets a second, in bit/s.
const AUDIO_HEADERS_BPS: u64 = 22_000;
/// A readable screen, in bit/s.
const SCREEN_MIN_BPS: u64 = 150_000;
const SCREEN_MAX_BPS: u64 = 2_500_000;
/// How long there must be room before a link goes up.
const HOLD: Duration = Duration::from_secs(2);
/// Least time between a change and a step up.
const CALM: Duration = Duration::from_secs(5);
/// Room that a step up needs beyond its cost, in percent.
const MARGIN_PERCENT: u64 = 110;
/// No link may hold a layer below this part of what the median link could take, in percent.
const DRAG_PERCENT: u64 = 60;
/// Loss above which packets of sound carry one or two earlier ones, and below which they stop to.
const RED_UP: [f32; 2] = [0.02, 0.08];
const RED_DOWN: [f32; 2] = [0.01, 0.05];
/// Most loss that Opus is told to prepare for, in percent.
const MOST_FEC_PERCENT: f32 = 10.0;

/// The rungs of the ladder from the bottom: a layer, and whether with both temporal layers.
const LADDER: [Option<(Layer, u8)>; 5] =
    [None, Some((Layer::Low, 1)), Some((Layer::Medium, 0)), Some((Layer::Medium, 1)), Some((Layer::High, 1))];

/// What one link can carry and what the other side shows.
#[derive(Debug, Clone)]
pub struct LinkDemand {
    /// The connection.
    pub link: LinkId,
    /// Its estimated bandwidth in bit/s, once there is one.
    pub estimate_bps: Option<u64>,
    /// The part of packets that is lost, 0 to 1.
    pub loss: f32,
    /// How large it shows our camera and screen.
    pub tile: Tile,
}

/// What is to be planned for.
#[derive(Debug, Clone, Default)]
pub struct Demand {
    /// All open links.
    pub links: Vec<LinkDemand>,
    /// Width and height of our camera in pixels, while it is on.
    pub camera: Option<(u32, u32)>,
    /// Width and height of our shared screen in pixels, while it is shared.
    pub screen: Option<(u32, u32)>,
    /// What all links together can carry, in bit/s, where it is known.
    pub uplink_bps: Option<u64>,
}

/// What one link is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkPlan {
    /// The connection.
    pub link: LinkId,
    /// The camera's layer and highest temporal layer (0: base only).
    pub camera: Option<(Layer, u8)>,
    /// Whether the screen is sent.
    pub screen: bool,
    /// Earlier packets that each sound packet repeats, 0 to 2.
    pub red_copies: u8,
}

/// What the encoders make and the links carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Bit rate of each layer in the order of [`Layer::ALL`]; `None` is not encoded.
    pub layers: [Option<u64>; 3],
    /// Bit rate of the screen.
    pub screen: Option<u64>,
    /// Bit rate of Opus.
    pub audio_bps: u32,
    /// The loss that Opus prepares for, in percent.
    pub fec_loss_percent: u8,
    /// Each link, in the order of the demand.
    pub links: Vec<LinkPlan>,
}

/// What is remembered of a link so that it does not go up and down.
#[derive(Clone, Copy)]
struct Memory {
    rung: usize,
    changed: Option<Instant>,
    room_since: Option<Instant>,
    screen: bool,
    red: u8,
}

/// The screen's rate, and since when it could have been more.
#[derive(Clone, Copy)]
struct ScreenRate {
    bps: u64,
    room_since: Option<Instant>,
}

/// A link while it is planned for.
struct Draft {
    link: LinkId,
    /// What is left for the camera, in bit/s, were the link alone.
    camera_bps: u64,
    /// What is left for the screen, in bit/s, were the link alone.
    screen_bps: u64,
    cap: usize,
    rung: usize,
    screen: bool,
    red: u8,
}

/// Plans the uplink; it remembers earlier plans so that a steady estimate makes a steady picture.
#[derive(Default)]
pub struct Allocator {
    memory: BTreeMap<LinkId, Memory>,
    screen: Option<ScreenRate>,
}

impl Allocator {
    /// The plan for a demand.
    pub fn allocate(&mut self, now: Instant, demand: &Demand) -> Plan {
        let red: Vec<u8> = demand.links.iter().map(|link| self.red_copies(link)).collect();
        let audio_bps = if red.contains(&2) { LOSSY_AUDIO_BPS } else { AUDIO_BPS };
        let mut drafts: Vec<Draft> = demand
            .links
            .iter()
            .zip(red)
            .map(|(link, red)| self.draft(now, link, red, audio_bps, demand))
            .collect();
        let audio: u64 = drafts.iter().map(|draft| audio_cost(audio_bps, draft.red)).sum();
        let pictures = demand.uplink_bps.map_or(u64::MAX, |uplink| uplink.saturating_sub(audio));
        let floors = floors(&drafts);
        self.choose_rungs(now, &mut drafts, &floors, pictures);
        self.memory = drafts.iter().map(|draft| (draft.link, self.memory[&draft.link])).collect();
        let (layers, screen) = targets(&drafts, &floors, demand.screen, pictures);
        let screen = self.hold_screen(now, screen);
        let loss = demand.links.iter().map(|link| link.loss).fold(0.0, f32::max);
        let links = drafts.iter().map(|draft| LinkPlan {
            link: draft.link,
            camera: LADDER[draft.rung],
            screen: draft.screen,
            red_copies: draft.red,
        });
        Plan {
            layers,
            screen,
            audio_bps,
            fec_loss_percent: (loss * 100.0).clamp(0.0, MOST_FEC_PERCENT) as u8,
            links: links.collect(),
        }
    }

    /// Text that goes back and forth between sharp and blurred is worse than text that is a little less sharp throughout.
    fn hold_screen(&mut self, now: Instant, target: Option<u64>) -> Option<u64> {
        let rate = self.screen.take().zip(target).map(|(mut rate, target)| {
            if target <= rate.bps {
                return ScreenRate { bps: target, room_since: None };
            }
            let since = *rate.room_since.get_or_insert(now);
            let held = now.saturating_duration_since(since) >= HOLD;
            if held { ScreenRate { bps: target, room_since: None } } else { rate }
        });
        self.screen = rate.or(target.map(|bps| ScreenRate { bps, room_since: None }));
        self.screen.map(|rate| rate.bps)
    }

    fn red_copies(&self, link: &LinkDemand) -> u8 {
        let before = self.memory.get(&link.link).map_or(0, |memory| memory.red);
        let up = RED_UP.iter().filter(|limit| link.loss > **limit).count() as u8;
        let down = RED_DOWN.iter().filter(|limit| link.loss > **limit).count() as u8;
        before.clamp(up, down)
    }

    fn draft(&mut self, now: Instant, link: &LinkDemand, red: u8, audio_bps: u32, demand: &Demand) -> Draft {
        let estimate = link.estimate_bps.unwrap_or(START_BPS);
        let pictures = estimate.saturating_sub(audio_cost(audio_bps, red));
        let memory = self.memory.entry(link.link).or_insert(Memory {
            rung: LADDER.len(),
            changed: None,
            room_since: None,
            screen: true,
            red,
        });
        memory.red = red;
        let wanted = demand.screen.is_some() && link.tile.screen_height > 0;
        // A screen that did not fit comes back with some room to spare.
        let needed = if memory.screen { SCREEN_MIN_BPS } else { SCREEN_MIN_BPS * 2 };
        let calm = memory.screen || memory.changed.is_none_or(|at| now.saturating_duration_since(at) >= CALM);
        let screen = wanted && pictures >= needed && calm;
        if wanted && memory.screen != screen {
            memory.screen = screen;
            memory.changed = Some(now);
        }
        let most = demand.screen.map_or(0, screen_max);
        let screen_bps = if screen { (pictures * 3 / 5).clamp(SCREEN_MIN_BPS, most) } else { 0 };
        let cap = demand.camera.and_then(|size| link.tile.camera_layer(size)).map_or(0, rung_of);
        let camera_bps = pictures.saturating_sub(screen_bps);
        Draft { link: link.link, camera_bps, screen_bps, cap, rung: 0, screen, red }
    }

    fn choose_rungs(&mut self, now: Instant, drafts: &mut [Draft], floors: &[u64; 3], pictures: u64) {
        // Down at once: by each link's own estimate, then by what all together may send.
        for draft in drafts.iter_mut() {
            let memory = self.memory.get_mut(&draft.link).expect("each draft was remembered");
            let fits = highest(floors, draft.camera_bps);
            let first = memory.rung == LADDER.len();
            if fits < memory.rung {
                memory.rung = fits;
                memory.room_since = None;
                memory.changed = (!first).then_some(now);
            }
            draft.rung = memory.rung.min(draft.cap);
        }
        while total(drafts, floors) > pictures {
            let highest = drafts.iter_mut().filter(|draft| draft.rung > 0).max_by_key(|draft| draft.rung);
            if let Some(draft) = highest {
                draft.rung -= 1;
                let memory = self.memory.get_mut(&draft.link).expect("each draft was remembered");
                *memory = Memory { rung: draft.rung, changed: Some(now), room_since: None, ..*memory };
            } else if let Some(draft) = drafts.iter_mut().rev().find(|draft| draft.screen) {
                draft.screen = false;
                let memory = self.memory.get_mut(&draft.link).expect("each draft was remembered");
                *memory = Memory { screen: false, changed: Some(now), ..*memory };
            } else {
                break;
            }
        }
        // Up a rung at a time.
        for index in 0..drafts.len() {
            let before = total(drafts, floors);
            let draft = &mut drafts[index];
            let memory = self.memory.get_mut(&draft.link).expect("each draft was remembered");
            let next = memory.rung + 1;
            if next >= LADDER.len() {
                continue;
            }
            let own = with_margin(cost(next, floors)) <= draft.camera_bps;
            let more = cost(next.min(draft.cap), floors).saturating_sub(cost(draft.rung, floors));
            let room = own && (more == 0 || with_margin(before + more) <= pictures);
            if !room {
                memory.room_since = None;
                continue;
            }
            let since = *memory.room_since.get_or_insert(now);
            let held = now.saturating_duration_since(since) >= HOLD;
            let calm = memory.changed.is_none_or(|at| now.saturating_duration_since(at) >= CALM);
            if held && calm {
                *memory = Memory { rung: next, changed: Some(now), room_since: None, ..*memory };
                draft.rung = next.min(draft.cap);
            }
        }
    }
}

/// The lowest rate of each layer that its slowest link may ask for.
fn floors(drafts: &[Draft]) -> [u64; 3] {
    let mut budgets: Vec<u64> = drafts.iter().map(|draft| draft.camera_bps).collect();
    budgets.sort_unstable();
    let median = budgets.get(budgets.len() / 2).copied().unwrap_or(0);
    Layer::ALL.map(|layer| layer.min_bps().max(median.min(layer.max_bps()) * DRAG_PERCENT / 100))
}

/// Rates of the layers and of the screen: what every link on them can take, then less of all when together they are too much.
fn targets(
    drafts: &[Draft],
    floors: &[u64; 3],
    screen: Option<(u32, u32)>,
    pictures: u64,
) -> ([Option<u64>; 3], Option<u64>) {
    let mut layers = [None; 3];
    for layer in Layer::ALL {
        let on = drafts.iter().filter_map(|draft| match LADDER[draft.rung] {
            Some((its, temporal)) if its == layer => {
                Some(if temporal == 0 { draft.camera_bps * 5 / 3 } else { draft.camera_bps })
            }
            _ => None,
        });
        layers[layer as usize] = on.min().map(|bps| bps.clamp(floors[layer as usize], layer.max_bps()));
    }
    let mut picture = drafts
        .iter()
        .filter(|draft| draft.screen)
        .map(|draft| draft.screen_bps)
        .min()
        .filter(|_| screen.is_some());
    let sum: u64 = drafts
        .iter()
        .map(|draft| {
            let camera = LADDER[draft.rung]
                .map_or(0, |(layer, temporal)| part(layers[layer as usize].unwrap_or(0), temporal));
            camera + if draft.screen { picture.unwrap_or(0) } else { 0 }
        })
        .sum();
    let least = total(drafts, floors);
    if sum > pictures && sum > least {
        let shrink = |target: u64, floor: u64| {
            let above = u128::from(target.saturating_sub(floor)) * u128::from(pictures.saturating_sub(least));
            floor + u64::try_from(above / u128::from(sum - least)).unwrap_or(0)
        };
        for (target, floor) in layers.iter_mut().zip(floors) {
            *target = target.map(|target| shrink(target, *floor));
        }
        picture = picture.map(|target| shrink(target, SCREEN_MIN_BPS));
    }
    (layers, picture)
}

/// The least that the pictures of all links take, in bit/s.
fn total(drafts: &[Draft], floors: &[u64; 3]) -> u64 {
    drafts.iter().map(|draft| cost(draft.rung, floors) + if draft.screen { SCREEN_MIN_BPS } else { 0 }).sum()
}

/// The least that a rung takes, in bit/s.
fn cost(rung: usize, floors: &[u64; 3]) -> u64 {
    LADDER[rung].map_or(0, |(layer, temporal)| part(floors[layer as usize], temporal))
}

fn part(bps: u64, temporal: u8) -> u64 {
    if temporal == 0 { Layer::base_bps(bps) } else { bps }
}

fn highest(floors: &[u64; 3], bps: u64) -> usize {
    (0..LADDER.len()).rev().find(|rung| cost(*rung, floors) <= bps).unwrap_or(0)
}

/// The rung that a layer is sent whole at.
fn rung_of(layer: Layer) -> usize {
    match layer {
        Layer::Low => 1,
        Layer::Medium => 3,
        Layer::High => 4,
    }
}

fn screen_max((width, height): (u32, u32)) -> u64 {
    (u64::from(width) * u64::from(height)).clamp(2 * SCREEN_MIN_BPS, SCREEN_MAX_BPS)
}

fn audio_cost(audio_bps: u32, red: u8) -> u64 {
    u64::from(audio_bps) * (1 + u64::from(red)) + AUDIO_HEADERS_BPS
}

fn with_margin(bps: u64) -> u64 {
    bps * MARGIN_PERCENT / 100
}
