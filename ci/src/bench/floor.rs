//! What the kernel and the runtime take for the same fan-out when nothing is decided: a server of bare sockets that writes a fixed text to the four others
//! for whatever one of five says. The floor under the CPU column: no relay with one write per delivered message can be cheaper on this machine.

use anyhow::{Context, Result, anyhow};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::stats::Cpu;

const ROOMS: usize = 20;
const MEMBERS: usize = 5;
/// About the size of a `peer_state`, and of what causes it.
const TOLD: [u8; 120] = [b'x'; 120];
const SAID: [u8; 45] = [b'x'; 45];

/// CPU of the bare server per million delivered messages.
///
/// # Errors
/// When loopback sockets cannot be had.
pub(crate) async fn bare_fan_out(time: Duration) -> Result<Cpu> {
    let (ready, address) = oneshot::channel();
    let (stop, stopped) = oneshot::channel();
    // A thread of its own, so that its CPU time can be told from the generator's.
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(serve(ready, stopped))
    });
    let address = address.await.context("the bare server did not start")?;
    let delivered = Arc::new(AtomicU64::new(0));
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        let mut members = Vec::new();
        for _ in 0..MEMBERS {
            let member = TcpStream::connect(address).await?;
            member.set_nodelay(true)?;
            members.push(member);
        }
        rooms.push(tokio::spawn(take_turns(members, Arc::clone(&delivered))));
    }
    tokio::time::sleep(time).await;
    for room in &rooms {
        room.abort();
    }
    let count = delivered.load(Ordering::Relaxed);
    let _ = stop.send(());
    let spent = server.join().map_err(|_| anyhow!("the bare server stopped"))??;
    let millions = count as f64 / 1e6;
    Ok(Cpu { user: spent.user / millions, system: spent.system / millions })
}

/// One says something, the four others read what they are told, then it is the next one's turn.
async fn take_turns(mut members: Vec<TcpStream>, delivered: Arc<AtomicU64>) -> Result<()> {
    let mut told = TOLD;
    for turn in (0..MEMBERS).cycle() {
        members[turn].write_all(&SAID).await?;
        for (number, member) in members.iter_mut().enumerate() {
            if number != turn {
                member.read_exact(&mut told).await?;
                delivered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

async fn serve(ready: oneshot::Sender<SocketAddr>, stopped: oneshot::Receiver<()>) -> Result<Cpu> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let _ = ready.send(listener.local_addr()?);
    for _ in 0..ROOMS {
        let mut members = Vec::new();
        for _ in 0..MEMBERS {
            let (member, _) = listener.accept().await?;
            member.set_nodelay(true)?;
            members.push(member);
        }
        let members: Arc<[TcpStream]> = members.into();
        for own in 0..MEMBERS {
            tokio::spawn(pass_on(Arc::clone(&members), own));
        }
    }
    let before = Cpu::of_thread()?;
    let _ = stopped.await;
    let after = Cpu::of_thread()?;
    Ok(Cpu { user: after.user - before.user, system: after.system - before.system })
}

/// Tells the others whenever one says something. Their sockets are never full: each has one message on its way.
async fn pass_on(members: Arc<[TcpStream]>, own: usize) -> Result<()> {
    let mut said = SAID;
    loop {
        members[own].readable().await?;
        match members[own].try_read(&mut said) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        }
        for (number, member) in members.iter().enumerate() {
            if number != own {
                member.try_write(&TOLD)?;
            }
        }
    }
}
