//! What the kernel alone takes for one small write to a loopback socket. A relay makes at least one such write for every message that it delivers,
//! so no relay on this machine can be cheaper: the floor under the CPU column.

use anyhow::{Context, Result};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use tokio::io::AsyncReadExt;

use super::stats::Cpu;

const SOCKETS: usize = 80;
/// About the size of a `peer_state`.
const MESSAGE: [u8; 120] = [b'x'; 120];

/// CPU seconds for a million writes, of which `writes` are made.
///
/// # Errors
/// When loopback sockets cannot be had.
pub(crate) async fn million_writes(writes: usize) -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut senders = Vec::new();
    let mut readers = Vec::new();
    for _ in 0..SOCKETS {
        senders.push(TcpStream::connect(listener.local_addr()?)?);
        let (receiver, _) = listener.accept()?;
        receiver.set_nonblocking(true)?;
        let mut receiver = tokio::net::TcpStream::from_std(receiver)?;
        readers.push(tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while receiver.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        }));
    }
    let (done, result) = tokio::sync::oneshot::channel();
    // A thread of its own, so that only the writes are counted and not the reads.
    std::thread::spawn(move || {
        let measured = (|| {
            let before = Cpu::of_thread()?;
            for number in 0..writes {
                senders[number % SOCKETS].write_all(&MESSAGE)?;
            }
            let after = Cpu::of_thread()?;
            Ok::<_, anyhow::Error>((after.total() - before.total()) / (writes as f64 / 1e6))
        })();
        let _ = done.send(measured);
    });
    let measured: Result<f64> = tokio::time::timeout(Duration::from_secs(60), result)
        .await
        .context("the writes took over a minute")??;
    for reader in readers {
        reader.abort();
    }
    measured
}
