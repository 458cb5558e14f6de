//! What is answered.

use super::{Asked, Control, Unwarmed, host};
use crate::observe::Observer;
use crate::observe::metrics::Format;
use crate::observe::{TailLine, tail};
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// A reload reads files and asks servers nothing; a daemon that takes longer is stuck.
const RELOAD: Duration = Duration::from_secs(30);
/// Lines between the stream's subscription and its connection.
const TAIL_BUFFER: usize = 64;

/// What the socket answers beside the shared routes.
#[derive(Clone)]
struct Socket {
    observer: Observer,
    control: mpsc::Sender<Control>,
    stop: CancellationToken,
}

fn shared(observer: Observer) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .with_state(observer)
        .fallback(|| async { (StatusCode::NOT_FOUND, "there are /livez /readyz /metrics /status\n") })
}

/// Routes of the TCP listener.
pub(super) fn tcp(observer: Observer) -> Router {
    let machine = host::machine();
    let guard = move |request: Request, next: Next| {
        let host = request.headers().get(header::HOST).map(|h| h.to_str().unwrap_or("?"));
        let safe = host::is_safe(host, &machine);
        async move {
            let mut response = if safe {
                next.run(request).await
            } else {
                let why = "ask by address, by localhost or by this machine's own name: other names could be rebound\n";
                (StatusCode::MISDIRECTED_REQUEST, why).into_response()
            };
            // One request a connection, so that the connection's deadline is the request's.
            response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
            response
        }
    };
    shared(observer).layer(middleware::from_fn(guard))
}

/// Routes of the unix socket.
pub(super) fn socket(observer: Observer, control: mpsc::Sender<Control>, stop: CancellationToken) -> Router {
    let state = Socket { observer: observer.clone(), control, stop };
    let own = Router::new()
        .route("/tail", get(tail_stream))
        .route("/reload", post(reload))
        .route("/pause", post(|state: State<Socket>, what: Query<What>| pause(state, what, true)))
        .route("/resume", post(|state: State<Socket>, what: Query<What>| pause(state, what, false)))
        .route("/dismiss/{cache}", post(dismiss))
        .route("/warm/{cache}", post(warm))
        .with_state(state);
    shared(observer).merge(own)
}

/// An operator has dealt with the refused edges of a cache.
async fn dismiss(State(socket): State<Socket>, axum::extract::Path(cache): axum::extract::Path<String>) -> Response {
    match socket.control.send(Control::Dismiss { cache }).await {
        Ok(()) => (StatusCode::ACCEPTED, "dismissed\n").into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the daemon is ending\n").into_response(),
    }
}

/// Queues an entry to be filled; what becomes of it stands in the log.
async fn warm(
    State(socket): State<Socket>,
    axum::extract::Path(cache): axum::extract::Path<String>,
    Query(values): Query<BTreeMap<String, String>>,
) -> Response {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        socket.control.send(Control::Warm(Asked { cache, values, reply })).await.ok()?;
        answer.await.ok()
    };
    match tokio::time::timeout(RELOAD, asked).await {
        Ok(Some(Ok(key))) => (StatusCode::ACCEPTED, Json(json!({ "key": key }))).into_response(),
        Ok(Some(Err(Unwarmed::Unknown(why)))) => (StatusCode::NOT_FOUND, why).into_response(),
        Ok(Some(Err(Unwarmed::NotNow(why)))) => (StatusCode::CONFLICT, why).into_response(),
        Ok(None) => (StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping").into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the daemon does not answer").into_response(),
    }
}

async fn livez(State(observer): State<Observer>) -> Response {
    if observer.is_alive() {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the loop has not been heard of for 15 s\n").into_response()
    }
}

#[derive(Deserialize)]
struct Form {
    format: Option<String>,
}

async fn readyz(State(observer): State<Observer>, Query(form): Query<Form>) -> Response {
    let status = observer.status();
    let code = if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if form.format.as_deref() == Some("json") {
        return (code, Json(json!({ "ready": status.ready, "reasons": status.reasons }))).into_response();
    }
    let mut text = String::from(if status.ready { "ready\n" } else { "" });
    for reason in &status.reasons {
        text.push_str(&format!("{}: {}\n", reason.what, reason.why));
    }
    (code, text).into_response()
}

async fn metrics(State(observer): State<Observer>, headers: HeaderMap) -> Response {
    let format = Format::of(headers.get(header::ACCEPT).and_then(|a| a.to_str().ok()));
    ([(header::CONTENT_TYPE, format.content_type())], observer.metrics_text(format)).into_response()
}

async fn status(State(observer): State<Observer>) -> Response {
    Json(observer.status()).into_response()
}

async fn reload(State(socket): State<Socket>) -> Response {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        socket.control.send(Control::Reload { reply }).await.ok()?;
        answer.await.ok()
    };
    match tokio::time::timeout(RELOAD, asked).await {
        Ok(Some(Ok(()))) => (StatusCode::OK, "the new configuration is live\n").into_response(),
        Ok(Some(Err(why))) => (StatusCode::UNPROCESSABLE_ENTITY, why).into_response(),
        Ok(None) => (StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping\n").into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the daemon does not answer\n").into_response(),
    }
}

#[derive(Deserialize)]
struct What {
    warming: Option<bool>,
}

/// Pauses warming (`?warming=true`) or delivery, or goes on with it.
async fn pause(State(socket): State<Socket>, Query(what): Query<What>, paused: bool) -> Response {
    let (reply, answer) = oneshot::channel();
    let warming = what.warming == Some(true);
    let asked = async {
        socket.control.send(Control::Pause { warming, paused, reply }).await.ok()?;
        answer.await.ok()
    };
    match tokio::time::timeout(RELOAD, asked).await {
        Ok(Some(Ok(new))) => Json(json!({ "paused": paused, "warming": warming, "new": new })).into_response(),
        Ok(Some(Err(why))) => (StatusCode::CONFLICT, why).into_response(),
        Ok(None) => (StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping").into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the daemon does not answer").into_response(),
    }
}

async fn tail_stream(State(socket): State<Socket>) -> Response {
    // Subscribed before the answer begins: what happens after the client has seen the head is in the stream.
    let lines = socket.observer.subscribe();
    let (sender, receiver) = mpsc::channel(TAIL_BUFFER);
    tokio::spawn(forward(lines, sender, socket.stop));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(Lines(receiver))).into_response()
}

/// Ends when the client is gone or the daemon stops.
async fn forward(mut lines: broadcast::Receiver<TailLine>, sender: mpsc::Sender<Bytes>, stop: CancellationToken) {
    loop {
        let received = tokio::select! {
            received = lines.recv() => received,
            () = sender.closed() => return,
            () = stop.cancelled() => return,
        };
        let line = match received {
            Ok(line) => format!("{}\n", line.json()),
            Err(broadcast::error::RecvError::Lagged(n)) => format!("{}\n", tail::lost(n)),
            Err(broadcast::error::RecvError::Closed) => return,
        };
        tokio::select! {
            sent = sender.send(line.into()) => if sent.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// The body of the stream: its end is the channel's end.
struct Lines(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|line| line.map(|l| Ok(hyper::body::Frame::data(l))))
    }
}
