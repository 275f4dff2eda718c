//! The uplink's plan: sound first, never more than there is, and no going up and down.

#![expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use snug_call_proto::allocation::{Allocator, Demand, LinkDemand, Plan};
use snug_call_proto::{LinkId, Tile};
use snug_media_proto::layer::Layer;

const LARGE: Tile = Tile { width: 1280, height: 720, screen_width: 0, screen_height: 0 };

fn link(id: u64, estimate_bps: u64) -> LinkDemand {
    LinkDemand { link: LinkId(id), estimate_bps: Some(estimate_bps), loss: 0.0, tile: LARGE }
}

fn demand(links: Vec<LinkDemand>) -> Demand {
    Demand { links, camera: Some((1280, 720)), screen: None, uplink_bps: None }
}

/// What a plan sends in all: pictures, and sound with its repeats and headers.
fn sent(plan: &Plan) -> (u64, u64) {
    let pictures = plan.links.iter().map(|link| {
        let camera = link.camera.map_or(0, |(layer, temporal)| {
            let target = plan.layers[layer as usize].expect("a layer that is sent is encoded");
            if temporal == 0 { Layer::base_bps(target) } else { target }
        });
        camera + if link.screen { plan.screen.expect("a screen that is sent is encoded") } else { 0 }
    });
    let sound =
        plan.links.iter().map(|link| u64::from(plan.audio_bps) * (1 + u64::from(link.red_copies)) + 22_000);
    (pictures.sum(), sound.sum())
}

#[test]
fn the_tile_chooses_the_layer() {
    let now = Instant::now();
    for (height, layer) in
        [(0, None), (180, Some(Layer::Low)), (360, Some(Layer::Medium)), (361, Some(Layer::High))]
    {
        let mut wanted = demand(vec![link(1, 5_000_000)]);
        wanted.links[0].tile.height = height;
        let plan = Allocator::default().allocate(now, &wanted);
        assert_eq!(plan.links[0].camera.map(|(layer, _)| layer), layer, "{height}");
    }
}

#[test]
fn nothing_is_encoded_that_nobody_is_sent() {
    let now = Instant::now();
    let plan = Allocator::default().allocate(now, &demand(vec![link(1, 5_000_000)]));
    assert_eq!(plan.layers, [None, None, Some(Layer::High.max_bps())]);
    let hidden = Demand { camera: None, ..demand(vec![link(1, 5_000_000)]) };
    assert_eq!(Allocator::default().allocate(now, &hidden).layers, [None; 3]);
}

#[test]
fn a_slow_link_takes_a_lower_layer_and_leaves_the_others_alone() {
    let now = Instant::now();
    let links = vec![link(1, 3_000_000), link(2, 3_000_000), link(3, 400_000)];
    let plan = Allocator::default().allocate(now, &demand(links));
    assert_eq!(plan.links[0].camera, Some((Layer::High, 1)));
    assert_eq!(plan.layers[2], Some(Layer::High.max_bps()));
    assert_eq!(plan.links[2].camera.map(|(layer, _)| layer), Some(Layer::Medium));
}

#[test]
fn it_goes_down_at_once_and_up_only_when_there_was_room_for_two_seconds() {
    let start = Instant::now();
    let mut allocator = Allocator::default();
    let at = |allocator: &mut Allocator, seconds: f64, bps: u64| {
        let plan = allocator.allocate(start + Duration::from_secs_f64(seconds), &demand(vec![link(1, bps)]));
        plan.links[0].camera
    };
    assert_eq!(at(&mut allocator, 0.0, 3_000_000), Some((Layer::High, 1)));
    assert_eq!(at(&mut allocator, 0.1, 200_000), Some((Layer::Low, 1)));
    assert_eq!(at(&mut allocator, 4.0, 3_000_000), Some((Layer::Low, 1)));
    assert_eq!(at(&mut allocator, 5.9, 3_000_000), Some((Layer::Low, 1)));
    assert_eq!(at(&mut allocator, 6.1, 3_000_000), Some((Layer::Medium, 0)));
}

#[test]
fn the_screen_gets_less_at_once_and_more_only_when_there_was_room_for_two_seconds() {
    let start = Instant::now();
    let mut allocator = Allocator::default();
    let mut at = |seconds: f64, bps: u64| {
        let tile = Tile { screen_width: 1920, screen_height: 1080, ..Tile::default() };
        let links = vec![LinkDemand { tile, ..link(1, bps) }];
        let wanted = Demand { screen: Some((1920, 1080)), ..demand(links) };
        allocator.allocate(start + Duration::from_secs_f64(seconds), &wanted).screen
    };
    let most = at(0.0, 3_000_000);
    let less = at(0.1, 1_000_000);
    assert!(less < most && less.is_some());
    assert_eq!(at(1.0, 3_000_000), less);
    assert_eq!(
        at(2.0, 900_000).map(|bps| Some(bps) < less),
        Some(true),
        "down again, and the wait begins anew"
    );
    let least = at(2.5, 3_000_000);
    assert_eq!(at(4.4, 3_000_000), least);
    assert_eq!(at(4.6, 3_000_000), most);
}

#[test]
fn loss_adds_repeats_and_less_loss_takes_them_off_later() {
    let now = Instant::now();
    let mut allocator = Allocator::default();
    let mut copies = |loss: f32| {
        let mut wanted = demand(vec![link(1, 3_000_000)]);
        wanted.links[0].loss = loss;
        let plan = allocator.allocate(now, &wanted);
        (plan.links[0].red_copies, plan.audio_bps)
    };
    let seen: Vec<_> = [0.0, 0.03, 0.015, 0.09, 0.06, 0.04, 0.005].into_iter().map(&mut copies).collect();
    let expected =
        [(0, 32_000), (1, 32_000), (1, 32_000), (2, 24_000), (2, 24_000), (1, 32_000), (0, 32_000)];
    assert_eq!(seen, expected);
}

proptest! {
    #[test]
    fn a_plan_is_never_more_than_the_uplink_and_sound_comes_first(
        rounds in prop::collection::vec(
            (prop::collection::vec((0u64..4_000_000, 0f32..1.0, 0u16..2000, 0u16..2000), 1..10), 0u64..20_000_000, any::<bool>()), 1..12),
    ) {
        let start = Instant::now();
        let mut allocator = Allocator::default();
        for (round, (links, uplink, screen)) in rounds.into_iter().enumerate() {
            let links = links.into_iter().enumerate().map(|(id, (estimate, loss, height, screen_height))| LinkDemand {
                link: LinkId(id as u64),
                estimate_bps: Some(estimate),
                loss,
                tile: Tile { width: height, height, screen_width: screen_height, screen_height },
            }).collect();
            let wanted = Demand { screen: screen.then_some((1920, 1080)), uplink_bps: Some(uplink), ..demand(links) };
            let plan = allocator.allocate(start + Duration::from_secs(round as u64), &wanted);
            let (pictures, sound) = sent(&plan);
            prop_assert!(pictures == 0 || pictures + sound <= uplink, "{pictures} + {sound} of {uplink}");
            prop_assert!(plan.audio_bps >= 16_000);
        }
    }

    #[test]
    fn a_steady_estimate_makes_at_most_one_change_in_five_seconds(
        estimates in prop::collection::vec(50_000u64..4_000_000, 1..6), uplink in 100_000u64..8_000_000,
    ) {
        let start = Instant::now();
        let mut allocator = Allocator::default();
        let links: Vec<_> = estimates.iter().enumerate().map(|(id, bps)| link(id as u64, *bps)).collect();
        let wanted = Demand { uplink_bps: Some(uplink), ..demand(links) };
        let mut changes: Vec<Vec<u64>> = vec![Vec::new(); estimates.len()];
        let mut before: Option<Plan> = None;
        for tenth in 0..600u64 {
            let plan = allocator.allocate(start + Duration::from_millis(tenth * 100), &wanted);
            if let Some(before) = &before {
                for (index, (old, new)) in before.links.iter().zip(&plan.links).enumerate() {
                    if old.camera != new.camera { changes[index].push(tenth); }
                }
            }
            before = Some(plan);
        }
        for times in changes {
            prop_assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 50), "{times:?}");
            prop_assert!(times.len() <= 4, "it settles: {times:?}");
        }
    }
}
