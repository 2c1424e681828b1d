//! `GET /v1/events/stream`: one JSON object a line, as long as the client reads.
//!
//! No task and no queue of its own: hyper asks for the next line when the client has taken the last.
//! A client that falls behind the journal's own bound is cut off in mid-stream, so that it can't take
//! a gap for silence; it follows again with `since`.

use std::collections::VecDeque;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::fault::Fault;
use super::reply::{Pairs, Params};
use super::routes::App;
use crate::api::EventRecord;

/// The reader was slower than the array for too long.
#[derive(Debug, thiserror::Error)]
#[error("the reader fell behind; follow again with `since`")]
struct Behind;

struct Following {
    past: VecDeque<EventRecord>,
    coming: broadcast::Receiver<EventRecord>,
    stop: watch::Receiver<bool>,
    /// Index of the last event of the past, which comes a second time.
    told: u64,
}

impl Following {
    async fn next(&mut self) -> Option<Result<EventRecord, Behind>> {
        if let Some(event) = self.past.pop_front() {
            return Some(Ok(event));
        }
        let past = self.told;
        loop {
            let event = tokio::select! {
                event = self.coming.recv() => event,
                _ = self.stop.wait_for(|stop| *stop) => return None,
            };
            match event {
                Ok(event) if event.is_known_at(past) => {}
                Ok(event) => return Some(Ok(event)),
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(_)) => return Some(Err(Behind)),
            }
        }
    }
}

fn line(event: &EventRecord) -> Bytes {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// Follows the events after `since`, or those to come.
pub(super) async fn follow(State(app): State<App>, query: Pairs) -> Result<Response, Fault> {
    let params = Params::of(query, &["since"])?;
    let since = params.one("since", "a log index")?;
    app.awake()?;
    let (past, coming) = app.door.follow(since);
    let told = past.last().map_or(0, |event| event.index);
    let following = Following {
        past: past.into(),
        coming,
        stop: app.stop.clone(),
        told,
    };
    let lines = futures_util::stream::unfold(following, |mut following| async {
        let event = following.next().await?;
        Some((event.map(|event| line(&event)), following))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}
