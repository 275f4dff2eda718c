//! Real connections over a narrow wire in virtual time: however busy the machine is, the figures
//! are the same. They are printed.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::conditions::Conditions;
use super::traffic::Traffic;
use super::{lines, wired};

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// The share of a link that has its uplink for itself.
fn alone() -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(u64::MAX))
}

fn narrow(kbps: u64) -> Conditions {
    Conditions { bps: kbps * 1_000, delay: Duration::from_millis(10), ..Conditions::default() }
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_falls_and_rises_is_followed_and_sound_does_not_wait_long() {
    let seed = 11;
    eprintln!("seed {seed}");
    let (net, there, back) = lines(seed);
    let pair = wired(&net, &there, &back).await;
    there.set(narrow(3_000));
    back.set(Conditions { delay: Duration::from_millis(10), ..Conditions::default() });
    let traffic = Traffic::start(&pair.a, pair.b_media, 1_500_000, alone());
    tokio::time::sleep(4 * SECOND).await;
    there.set(narrow(800));
    tokio::time::sleep(4 * SECOND).await;
    there.set(narrow(3_000));
    // It is looked for at growing intervals.
    for _ in 0..PATIENCE.as_secs() * 10 {
        tokio::time::sleep(SECOND / 10).await;
        if traffic.record.lock().unwrap().first(8 * SECOND, |rate| rate >= 1_000_000).is_some() {
            break;
        }
    }
    let padding = pair.a.stats().await.sections[1].padding_sent;
    let record = traffic.record.lock().unwrap();
    let (cut, risen) = (4 * SECOND, 8 * SECOND);
    let delays = record.sound_delays(cut, risen);
    let late = record.sound_delays(cut + 2 * SECOND, risen);
    let (down, up) =
        (record.first(cut, |rate| rate <= 800_000), record.first(risen, |rate| rate >= 1_000_000));
    eprintln!(
        "sound at most {:?} late after the cut, {:?} from 2 s on; down after {down:?}, up after {up:?}; {} frames held back, {padding} packets of padding",
        delays.last(),
        late.last(),
        record.held_back,
    );
    assert!(delays.last().is_some_and(|most| *most < Duration::from_millis(800)), "{delays:?}");
    assert!(late.get(late.len() / 2).is_some_and(|mid| *mid < Duration::from_millis(150)), "{late:?}");
    assert!(down.is_some_and(|down| down < 3 * SECOND), "{:?}", record.estimates);
    assert!(up.is_some(), "{:?}", record.estimates);
    assert!(padding > 0, "nothing was probed");
}

#[tokio::test(start_paused = true)]
async fn an_estimate_that_is_not_used_stays_where_it_is_of_use() {
    let (net, there, back) = lines(1);
    let pair = wired(&net, &there, &back).await;
    let traffic = Traffic::start(&pair.a, pair.b_media, 300_000, alone());
    tokio::time::sleep(5 * SECOND).await;
    let record = traffic.record.lock().unwrap();
    let last = record.estimates.last().unwrap().1;
    eprintln!("{last} bit/s for 300 kbit/s of pictures");
    let highest = record.estimates.iter().map(|(_, estimate, _)| *estimate).max().unwrap();
    assert!(highest < 4_000_000 && last > 100_000, "{:?}", record.estimates);
}
