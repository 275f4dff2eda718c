//! A WebSocket client as small as the protocol allows (RFC 6455), so that the generator costs less than what it measures.
//! It never compresses, never splits messages, and trusts the server's handshake.

use anyhow::{Context, Result, bail, ensure};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// An open connection.
pub(crate) struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
}

impl Socket {
    /// Connects from `source` (any port) and upgrades at `path`.
    ///
    /// # Errors
    /// When the server is not reached or answers with something else than 101.
    pub(crate) async fn connect(server: SocketAddr, source: Ipv4Addr, path: &str) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if source != Ipv4Addr::LOCALHOST {
            socket.bind(SocketAddr::from((source, 0)))?;
        }
        let stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        let mut this = Self { stream, buffer: Vec::with_capacity(1024), start: 0 };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {server}\r\nOrigin: http://{server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        this.stream.write_all(request.as_bytes()).await?;
        let end = loop {
            if let Some(at) = this.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            this.fill().await?;
        };
        let head = String::from_utf8_lossy(&this.buffer[..end]).into_owned();
        ensure!(head.starts_with("HTTP/1.1 101"), "no upgrade: {}", head.lines().next().unwrap_or_default());
        this.start = end;
        Ok(this)
    }

    /// Sends one text message. The mask is constant: it protects proxies, and there is none here.
    ///
    /// # Errors
    /// When the connection is gone.
    pub(crate) async fn send(&mut self, text: &str) -> Result<()> {
        self.frame(0x1, text.as_bytes()).await
    }

    async fn frame(&mut self, opcode: u8, payload: &[u8]) -> Result<()> {
        let mut frame = Vec::with_capacity(payload.len() + 14);
        frame.push(0x80 | opcode);
        match payload.len() {
            small @ 0..=125 => frame.push(0x80 | small as u8),
            middle @ 126..=65535 => {
                frame.push(0x80 | 126);
                frame.extend((middle as u16).to_be_bytes());
            }
            large => {
                frame.push(0x80 | 127);
                frame.extend((large as u64).to_be_bytes());
            }
        }
        const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        Ok(self.stream.write_all(&frame).await?)
    }

    /// The next text message. Safe to cancel: what has been read stays in the buffer.
    ///
    /// # Errors
    /// When the server closes the connection.
    pub(crate) async fn receive(&mut self) -> Result<String> {
        loop {
            if let Some((opcode, range)) = self.whole_frame()? {
                let payload = self.buffer[range.clone()].to_vec();
                self.start = range.end;
                match opcode {
                    0x1 => return Ok(String::from_utf8(payload)?),
                    0x8 => bail!("closed by the server: {}", close_reason(&payload)),
                    0x9 => self.frame(0xA, &payload).await?,
                    _ => {}
                }
            } else {
                self.fill().await?;
            }
        }
    }

    /// Opcode and place of the first frame in the buffer, once it is there completely.
    fn whole_frame(&self) -> Result<Option<(u8, std::ops::Range<usize>)>> {
        let bytes = &self.buffer[self.start..];
        let (Some(first), Some(second)) = (bytes.first(), bytes.get(1)) else { return Ok(None) };
        ensure!(first & 0x80 != 0, "the server splits messages, which this client does not read");
        let (header, length) = match second & 0x7f {
            126 if bytes.len() >= 4 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
            127 if bytes.len() >= 10 => {
                let length = bytes[2..10].try_into().context("eight bytes")?;
                (10, usize::try_from(u64::from_be_bytes(length))?)
            }
            126 | 127 => return Ok(None),
            small => (2, usize::from(small)),
        };
        let start = self.start + header;
        Ok((self.buffer.len() >= start + length).then(|| (first & 0x0f, start..start + length)))
    }

    async fn fill(&mut self) -> Result<()> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > 16 * 1024 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the server closed the connection without a word");
        Ok(())
    }
}

fn close_reason(payload: &[u8]) -> String {
    match payload {
        [high, low, text @ ..] => {
            format!("{} {}", u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(text))
        }
        _ => "no code".to_owned(),
    }
}
