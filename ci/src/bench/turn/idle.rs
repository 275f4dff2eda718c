//! What an allocation costs that carries nothing: CPU time to get it, memory to keep it.
//! Each server is started anew for each size, so that nothing it kept from before is reused.

use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use snug_udp::ReceiveArena;

use super::Figures;
use super::client::{self, Client};
use super::clock::ProcessClock;
use super::servers::{BOTH, TurnServer};
use crate::bench::stats::resident;

/// Long enough for a server to come to rest; memory that it would give back later is not worth waiting for.
const REST: Duration = Duration::from_millis(300);

/// # Errors
/// When allocations are refused.
pub(super) fn run(smoke: bool, repeats: usize) -> Result<String> {
    let sizes: &[usize] = if smoke { &[50] } else { &[1_000, 5_000] };
    let mut table = String::from(
        "#### Idle allocations, each with a permission for and a channel to the relayed address of another one\n\n\
         | allocations | what | coturn, min / median | snug-relay, min / median | ours / theirs | must | moonshot | |\n|---|---|---|---|---|---|---|---|\n",
    );
    for &size in sizes {
        let mut memory = [Figures::default(), Figures::default()];
        let mut cpu = [Figures::default(), Figures::default()];
        for _ in 0..repeats {
            for (place, maker) in BOTH.into_iter().enumerate() {
                let server = TurnServer::start(maker)?;
                let one = measure(&server, size)
                    .with_context(|| format!("{size} allocations at {}", maker.name()))?;
                memory[place].push(one.kibibytes);
                cpu[place].push(one.microseconds);
            }
        }
        table += &row(size, "RSS per allocation, KiB", &memory, |ours, _| ours, (2.7, 0.55));
        table +=
            &row(size, "CPU per Allocate with its 401, µs", &cpu, |ours, theirs| ours / theirs, (0.5, 0.3));
    }
    Ok(table)
}

/// One line: `judged` makes of both medians what the bars are about.
fn row(
    size: usize,
    what: &str,
    [ours, theirs]: &[Figures; 2],
    judged: fn(f64, f64) -> f64,
    (must, moonshot): (f64, f64),
) -> String {
    let value = judged(ours.median(), theirs.median());
    let verdict = match value {
        value if value <= moonshot => "moonshot",
        value if value <= must => "met",
        _ => "missed",
    };
    format!(
        "| {size} | {what} | {:.2} / {:.2} | {:.2} / {:.2} | {:.3} | ≤ {must} | {moonshot} | {verdict} |\n",
        theirs.min(),
        theirs.median(),
        ours.min(),
        ours.median(),
        ours.median() / theirs.median(),
    )
}

struct Cost {
    /// Of resident memory.
    kibibytes: f64,
    /// Of CPU time to allocate, without what channels cost.
    microseconds: f64,
}

fn measure(server: &TurnServer, size: usize) -> Result<Cost> {
    let mut arena = ReceiveArena::new(4);
    let mut clients = (0..size)
        .map(|number| {
            let (source, ticket) = server.seat_of(number)?;
            Client::new(source, ticket.server, ticket.login.clone(), false)
        })
        .collect::<Result<Vec<_>>>()?;
    sleep(REST);
    let before = resident(server.pid())?;

    let clock = ProcessClock::read(server.pid())?;
    client::allocate(&mut clients, &mut arena)?;
    sleep(REST);
    let spent = ProcessClock::read(server.pid())?.since(&clock);

    let relayed = clients.iter().map(Client::relayed).collect::<Result<Vec<SocketAddr>>>()?;
    let peers: Vec<_> = (0..size).map(|number| relayed[number ^ 1]).collect();
    client::bind_channels(&mut clients, &peers, &mut arena)?;
    sleep(REST);
    let after = resident(server.pid())?;
    client::release(&mut clients, &mut arena)?;
    Ok(Cost {
        kibibytes: after.saturating_sub(before) as f64 / 1024.0 / size as f64,
        microseconds: spent.as_secs_f64() * 1e6 / size as f64,
    })
}
