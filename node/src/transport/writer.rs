//! The writing half of a connection: one task that puts queued frames on the wire.
//!
//! A queue and not a lock around the stream: a caller that gives up half-way (its time is over)
//! must not leave half a frame behind. What is queued together goes out in one TLS record.

use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::frame::{Frame, HEADER, Header};

/// Frames that may wait to be written on one connection. Senders wait for room.
pub(super) const WRITE_QUEUE: usize = 64;

/// Frames are gathered up to this many bytes before they are written; a greater body is written
/// from where it lies.
const GATHER: usize = 32 * 1024;

/// A peer that takes no bytes for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Writes frames until the queue is closed or the stream breaks.
pub(super) async fn write_frames<Stream>(
    mut stream: Stream,
    mut queue: mpsc::Receiver<Frame>,
) -> std::io::Result<()>
where
    Stream: AsyncWrite + Unpin,
{
    let mut gathered = Vec::with_capacity(GATHER + HEADER);
    while let Some(frame) = queue.recv().await {
        let mut next = Some(frame);
        while let Some(frame) = next.take() {
            let header = Header {
                tag: frame.tag,
                id: frame.id,
                length: frame.body.len(),
            };
            gathered.extend_from_slice(&header.encode());
            if frame.body.len() <= GATHER {
                gathered.extend_from_slice(&frame.body);
            } else {
                write(&mut stream, &gathered).await?;
                gathered.clear();
                write(&mut stream, &frame.body).await?;
            }
            if gathered.len() < GATHER {
                next = queue.try_recv().ok();
            }
        }
        write(&mut stream, &gathered).await?;
        gathered.clear();
        tokio::time::timeout(WRITE_TIMEOUT, stream.flush()).await??;
    }
    // Best effort: the peer sees the end of the stream all the same.
    let _ = tokio::time::timeout(WRITE_TIMEOUT, stream.shutdown()).await;
    Ok(())
}

async fn write<Stream>(stream: &mut Stream, mut bytes: &[u8]) -> std::io::Result<()>
where
    Stream: AsyncWrite + Unpin,
{
    // The time-out is for each piece: a great frame over a slow line makes progress.
    while !bytes.is_empty() {
        let count = tokio::time::timeout(WRITE_TIMEOUT, stream.write(bytes)).await??;
        if count == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[count..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::frame::{Tag, Trust, read_frame};
    use super::*;

    /// Goal: small and great frames come out whole and in order.
    /// Method: queue a mixture before the writer runs, read it over a pipe of few bytes.
    #[tokio::test]
    async fn queued_frames_come_out_whole_and_in_order() {
        let sizes = [0, 10, GATHER, GATHER + 1, 5, 200_000, GATHER - 1, 3];
        let (sender, queue) = mpsc::channel(WRITE_QUEUE);
        for (id, size) in sizes.iter().enumerate() {
            let frame = Frame {
                tag: Tag::Item,
                id: id as u64,
                body: vec![id as u8; *size],
            };
            sender.send(frame).await.unwrap();
        }
        drop(sender);
        let (near, mut far) = tokio::io::duplex(1000);
        let writer = tokio::spawn(write_frames(near, queue));
        for (id, size) in sizes.iter().enumerate() {
            let frame = read_frame(&mut far, Trust::Member).await.unwrap().unwrap();
            assert_eq!((frame.id, frame.body), (id as u64, vec![id as u8; *size]));
        }
        assert!(read_frame(&mut far, Trust::Member).await.unwrap().is_none());
        writer.await.unwrap().unwrap();
    }
}
