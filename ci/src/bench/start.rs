//! How long from exec to the first good `/health`, how much memory an idle relay takes, how large the binary is.

use anyhow::{Result, ensure};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server::Server;
use super::stats::{Times, against, mebibytes, resident};
use crate::runners::relay_binary;

pub(crate) async fn run(smoke: bool) -> Result<String> {
    let rounds = if smoke { 3 } else { 20 };
    let mut times = Times::default();
    for _ in 0..rounds {
        let started = Instant::now();
        let server = Server::relay(&[])?;
        while !healthy(server.address).await.unwrap_or(false) {
            ensure!(started.elapsed() < Duration::from_secs(20), "/health never answered 200");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.push(started.elapsed());
    }
    let server = Server::relay(&[])?;
    tokio::time::sleep(Duration::from_secs(if smoke { 1 } else { 5 })).await;
    let idle = mebibytes(resident(server.pid())?);
    let size = mebibytes(std::fs::metadata(relay_binary())?.len());
    let median = times.percentile(0.5);
    Ok(format!(
        "### start ({rounds} runs)\n\n| what | figure | bar | |\n|---|---|---|---|\n\
         | exec to /health 200, median | {median:.1} ms | 100 ms | {} |\n\
         | exec to /health 200, slowest | {:.1} ms | | |\n\
         | idle RSS | {idle:.1} MiB | 15 MiB | {} |\n\
         | binary | {size:.1} MiB | 15 MiB | {} |",
        against(median, 100.0),
        times.percentile(1.0),
        against(idle, 15.0),
        against(size, 15.0),
    ))
}

async fn healthy(server: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect(server).await?;
    stream
        .write_all(format!("GET /health HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}
