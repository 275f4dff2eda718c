//! A flood of wrong passwords: how much memory the hashes take, and whether another room notices.
//!
//! Two shapes: all at one room, which its back-off answers mostly without hashing, and spread over many rooms, where every try has to be
//! hashed. Each guesser comes from an address block of its own, so that the limits per block do not help.

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Barrier;
use tokio::time::{sleep, timeout};

use super::server::{Kind, Opened, Server};
use super::signaling::{NO_LIMITS, seated};
use super::socket::Socket;
use super::stats::{Times, against, mebibytes, resident};

pub(crate) async fn run(smoke: bool) -> Result<String> {
    let guesses = if smoke { 20 } else { 500 };
    let mut table = format!(
        "### passwords ({guesses} parallel wrong passwords, each from its own /24)\n\n\
         | at | hashed and refused | told to wait | other answers | seconds | RSS before → peak | growth ≤ 60 MiB | join elsewhere p50 / p99 | p99 ≤ 50 ms |\n\
         |---|---|---|---|---|---|---|---|---|\n"
    );
    for rooms in [1, if smoke { 4 } else { 100 }] {
        let row =
            flood(guesses, rooms).await.with_context(|| format!("{guesses} guesses at {rooms} rooms"))?;
        table += &row;
    }
    Ok(table)
}

async fn flood(guesses: usize, rooms: usize) -> Result<String> {
    let server = Server::relay(NO_LIMITS)?;
    let address = server.address;
    let mut owners = Vec::new();
    for room in 0..rooms {
        owners.push(protected_room(address, room).await?);
    }
    sleep(Duration::from_secs(1)).await;

    // Everybody is connected before the first guess, so that the guesses fall together.
    let barrier = Arc::new(Barrier::new(guesses + 1));
    let wrong = Arc::new(AtomicU64::new(0));
    let limited = Arc::new(AtomicU64::new(0));
    let other = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for number in 0..guesses {
        let source = Ipv4Addr::new(127, 10 + (number / 250) as u8, (number % 250) as u8, 1);
        let mut opened = Kind::Snug.open(address, source).await?;
        let (barrier, wrong, limited, other) =
            (Arc::clone(&barrier), Arc::clone(&wrong), Arc::clone(&limited), Arc::clone(&other));
        tasks.push(tokio::spawn(async move {
            barrier.wait().await;
            let answer =
                timeout(Duration::from_secs(120), guess(&mut opened, number, number % rooms)).await??;
            let counter = match answer.as_str() {
                text if text.contains("AUTH_FAILED") => &wrong,
                text if text.contains("RATE_LIMITED") || text.contains("SERVER_BUSY") => &limited,
                text => {
                    if other.load(Ordering::Relaxed) == 0 {
                        println!("an unexpected answer to a wrong password: {text}");
                    }
                    &other
                }
            };
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, anyhow::Error>(())
        }));
    }
    let before = resident(server.pid())?;
    let peak = Arc::new(AtomicU64::new(before));
    let done = Arc::new(AtomicBool::new(false));
    let pid = server.pid();
    let watcher = {
        let (peak, done) = (Arc::clone(&peak), Arc::clone(&done));
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(resident(pid).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        })
    };

    barrier.wait().await;
    let started = Instant::now();
    let elsewhere = tokio::spawn({
        let done = Arc::clone(&done);
        async move { join_again_and_again(address, &done).await }
    });
    for task in tasks {
        task.await??;
    }
    let took = started.elapsed();
    // Long enough for a hundred joins, also when the flood was over at once.
    sleep(Duration::from_secs(2).saturating_sub(took)).await;
    done.store(true, Ordering::Relaxed);
    let mut joins = elsewhere.await??;
    watcher.join().map_err(|_| anyhow::anyhow!("the memory watcher stopped"))?;
    let growth = mebibytes(peak.load(Ordering::Relaxed).saturating_sub(before));
    let p99 = joins.percentile(0.99);
    drop(owners);
    Ok(format!(
        "| {rooms} room(s) | {} | {} | {} | {:.1} | {:.1} → {:.1} MiB | {growth:.1}: {} | {:.1} / {p99:.1} ms ({} joins) | {} |\n",
        wrong.load(Ordering::Relaxed),
        limited.load(Ordering::Relaxed),
        other.load(Ordering::Relaxed),
        took.as_secs_f64(),
        mebibytes(before),
        mebibytes(peak.load(Ordering::Relaxed)),
        against(growth, 60.0),
        joins.percentile(0.5),
        joins.len(),
        against(p99, 50.0),
    ))
}

/// Makes a room with a password and keeps its owner inside.
async fn protected_room(address: SocketAddr, number: usize) -> Result<Socket> {
    let opened = Kind::Snug.open(address, Ipv4Addr::LOCALHOST).await?;
    let join = Kind::Snug.join(&opened, &format!("closed-room-{number}"), number)?;
    let mut socket = opened.socket;
    socket.send(&join).await?;
    seated(Kind::Snug, &mut socket).await?;
    socket.send(r#"{"type":"set_room_password","password":"the right one","requestId":1}"#).await?;
    loop {
        let text = socket.receive().await?;
        if text.contains(r#""type":"done""#) {
            return Ok(socket);
        }
        anyhow::ensure!(!text.contains(r#""type":"error""#), "the password was not set: {text}");
    }
}

async fn guess(opened: &mut Opened, number: usize, room: usize) -> Result<String> {
    let join = Kind::Snug.join(opened, &format!("closed-room-{room}"), number)?;
    let socket = &mut opened.socket;
    let with_password = join.replacen('{', r#"{"password":"a wrong one","#, 1);
    socket.send(&with_password).await?;
    loop {
        let text = socket.receive().await?;
        // What comes before the verdict: the request for a password, with its hint.
        if !text.contains(r#""type":"auth_required""#) {
            return Ok(text);
        }
    }
}

/// Somebody who has nothing to do with it joins a room without a password, leaves and comes back.
async fn join_again_and_again(address: SocketAddr, done: &AtomicBool) -> Result<Times> {
    let mut times = Times::default();
    let mut opened = Kind::Snug.open(address, Ipv4Addr::new(127, 200, 0, 1)).await?;
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let join = Kind::Snug.join(&opened, "open-room", number)?;
        let socket = &mut opened.socket;
        let asked = Instant::now();
        socket.send(&join).await?;
        seated(Kind::Snug, socket).await?;
        times.push(asked.elapsed());
        socket.send(r#"{"type":"leave_room"}"#).await?;
        sleep(Duration::from_millis(20)).await;
    }
    Ok(times)
}
