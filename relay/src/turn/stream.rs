//! One TCP or TLS connection: messages are cut out of the bytes that come, and what waits in its outbox is written.
//! It never understands a message beyond its length, never holds more of one than has come, and never reads on while the thread "turn" is
//! behind.
//!
//! 1. The first whole message must come within [`FIRST_MESSAGE`]. Until then the thread "turn" knows nothing of the connection.
//! 2. Each read's whole messages go to the thread as one [`Chunk`]; what is left stays for the next read.
//! 3. Anything that cannot be a message ends the connection: there is no way to find the next one.
//! 4. However it ends, the thread is told. It ends a connection itself, by closing its outbox, when the participant is gone or when it
//!    has had no allocation for a minute.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use snug_turn_proto::frame_length;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::door::Admitted;
use super::outbox::Leg;
use crate::tcp::STALL;

/// Time for the first whole message.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// Time for the last bytes of a stream that ends, and for the client to close its side.
const GOODBYE: Duration = Duration::from_secs(1);
/// Bytes that are read at once. Longer messages get more room as they come.
const READ: usize = 4096;

/// What a stream tells the thread "turn".
pub(super) enum Chunk {
    /// Whole messages, one behind the other.
    Messages(Arc<Leg>, Vec<u8>),
    /// It is over. Only of streams that sent messages.
    Gone(Arc<Leg>),
}

/// Serves until either side ends it.
pub(super) async fn serve<S>(stream: S, leg: Arc<Leg>, admitted: Admitted) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut spoke = false;
    let result = tokio::select! {
        result = read(&mut reader, &leg, &admitted, &mut spoke) => result,
        result = write(&mut writer, &leg) => result,
        () = leg.closed() => Ok(()),
    };
    leg.close();
    if spoke {
        let door = &admitted.door;
        // Before the socket closes: its addresses may belong to another connection right after. It fails only when the thread has ended.
        let _ = door.chunks.send(Chunk::Gone(leg)).await;
        door.mailbox.ring();
    }
    // The other end is told that nothing more comes. Whether it hears makes no difference: what is left is cut off (`tcp.rs`).
    let goodbye = async {
        writer.shutdown().await?;
        let mut unread = [0; 256];
        while reader.read(&mut unread).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = timeout(GOODBYE, goodbye).await;
    result
}

async fn read<R>(reader: &mut R, leg: &Arc<Leg>, admitted: &Admitted, spoke: &mut bool) -> anyhow::Result<()>
where
    R: AsyncRead + Unpin,
{
    let deadline = Instant::now() + FIRST_MESSAGE;
    let mut buffer = Vec::with_capacity(READ);
    loop {
        let read = reader.read_buf(&mut buffer);
        let count = match *spoke {
            true => read.await?,
            false => timeout_at(deadline, read).await.context("it said nothing")??,
        };
        if count == 0 {
            return Ok(());
        }
        let (whole, needed) = whole_frames(&buffer)?;
        if whole > 0 {
            if !*spoke {
                *spoke = true;
                admitted.spoke();
            }
            let mut rest = Vec::with_capacity(READ.max(buffer.len() - whole));
            rest.extend_from_slice(&buffer[whole..]);
            buffer.truncate(whole);
            let messages = Chunk::Messages(leg.clone(), std::mem::replace(&mut buffer, rest));
            if admitted.door.chunks.send(messages).await.is_err() {
                bail!("the server has ended");
            }
            admitted.door.mailbox.ring();
        }
        grow(&mut buffer, needed);
    }
}

/// Makes room for more of a message that has `needed` bytes in all: as much as has come, not as was announced, and never beyond its end.
fn grow(buffer: &mut Vec<u8>, needed: usize) {
    buffer.reserve_exact(needed.saturating_sub(buffer.len()).clamp(1, READ.max(buffer.len())));
}

/// How many bytes at the start are whole frames, and how many the one behind them has in all.
fn whole_frames(buffer: &[u8]) -> anyhow::Result<(usize, usize)> {
    let mut whole = 0;
    loop {
        match frame_length(&buffer[whole..])? {
            Some(length) if whole + length <= buffer.len() => whole += length,
            Some(length) => return Ok((whole, length)),
            None => return Ok((whole, 0)),
        }
    }
}

async fn write<W>(writer: &mut W, leg: &Leg) -> anyhow::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let mut batch = Vec::new();
    while leg.take(&mut batch).await {
        let written = async {
            writer.write_all(&batch).await?;
            // TLS keeps what the socket does not take.
            writer.flush().await
        };
        timeout(STALL, written).await.context("it takes nothing")??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{READ, grow, whole_frames};

    #[test]
    fn a_chunk_takes_no_more_memory_than_the_longest_message_has_bytes() {
        let longest = [&[0, 1, 0xff, 0xfc], [0; 16 + 0xfffc].as_slice()].concat();
        let mut buffer = Vec::with_capacity(READ);
        while buffer.len() < longest.len() {
            let come = longest.len().min(buffer.capacity());
            assert!(come > buffer.len(), "there is always room to read");
            assert!(come <= READ.max(2 * buffer.len()), "no more than has come");
            buffer.extend_from_slice(&longest[buffer.len()..come]);
            let (_, needed) = whole_frames(&buffer).expect("frames");
            if buffer.len() < longest.len() {
                grow(&mut buffer, needed);
            }
            assert!(buffer.capacity() <= longest.len());
        }
    }

    #[test]
    fn messages_are_cut_where_they_end() {
        let channel_data = [0x40, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0];
        let binding = [&[0, 1, 0, 4], [7; 20].as_slice()].concat();
        let both = [channel_data.as_slice(), &binding].concat();
        let cut = |bytes: &[u8]| whole_frames(bytes).expect("frames");
        for length in 0..both.len() {
            let (whole, needed) = cut(&both[..length]);
            let (expected, next) = if length < 12 { (0, 12) } else { (12, 24) };
            let known = length - expected >= 4;
            assert_eq!((whole, needed), (expected, if known { next } else { 0 }), "{length}");
        }
        assert_eq!(cut(&both), (36, 0));
        assert!(whole_frames(b"POST / HTTP/1.1").is_err());
        assert!(whole_frames(&[&both, b"\xff".as_slice()].concat()).is_err());
    }
}
