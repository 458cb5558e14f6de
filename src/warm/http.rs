//! Values that the application makes itself when it is asked to (`warm.http`).
//!
//! One request, one connection, one limit for all of it: name, TCP, TLS, answer. No redirect is followed: the operator has named
//! the host, and nobody else does.

use super::Failure;
use crate::config::model::Http;
use crate::rules::binding::Binding;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Of the answer's body so much is read, so that the server sees an ordinary end; it means nothing here.
const MOST_BODY: usize = 64 << 10;

/// Asks applications to fill keys.
pub struct Client {
    /// None where no endpoint is `https`.
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("tls", &self.tls.is_some()).finish()
    }
}

impl Client {
    /// Reads the system's certificates where `tls` is needed.
    ///
    /// # Errors
    /// There are none.
    pub fn new(tls: bool) -> Result<Self, String> {
        if !tls {
            return Ok(Self { tls: None });
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("no certificate of the system could be read: install ca-certificates".into());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Some(TlsConnector::from(Arc::new(config))) })
    }

    /// Asks for one key to be filled.
    ///
    /// # Errors
    /// No answer in time, or another than was wished for.
    pub async fn ask(&self, http: &Http, values: &Binding, version: Option<&str>) -> Result<(), Failure> {
        let request = request(http, values, version)?;
        match tokio::time::timeout(http.timeout, self.answer(http, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(later(format!("no answer within {:?}", http.timeout))),
        }
    }

    async fn answer(&self, http: &Http, request: Request<Full<Bytes>>) -> Result<(), Failure> {
        let to = &http.url;
        let tcp = TcpStream::connect((to.host.as_str(), to.port))
            .await
            .map_err(|e| later(format!("no connection to {}: {e}", to.authority())))?;
        let response = match (&self.tls, to.tls) {
            (Some(tls), true) => {
                let name = ServerName::try_from(to.host.clone()).map_err(|e| wrong(e.to_string()))?;
                let stream = tls.connect(name, tcp).await.map_err(|e| later(format!("TLS: {e}")))?;
                exchange(stream, request).await?
            }
            (None, true) => return Err(wrong("no certificates were read for https".into())),
            (_, false) => exchange(tcp, request).await?,
        };
        let status = response.status();
        let location = response.headers().get(LOCATION).is_some();
        drain(response).await;
        let code = status.as_u16();
        if http.success.contains(&code) || (http.success.is_empty() && status.is_success()) {
            return Ok(());
        }
        if status.is_redirection() && location {
            return Err(wrong(format!("{code}: it sends elsewhere, and no redirect is followed")));
        }
        // Too many requests, too slow, or its own trouble: that passes. Anything else says that the request is wrong.
        let passes = status.is_server_error() || matches!(code, 408 | 425 | 429);
        Err(Failure { why: format!("it answers {code}"), hopeless: !passes })
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |e: hyper::Error| later(format!("the connection broke: {e}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Ends with the sender and the body, or with the server's hanging up.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(broken)
}

/// The status has said everything; a body that does not end is left.
async fn drain(response: Response<Incoming>) {
    let mut body = response.into_body();
    let mut read = 0;
    while read < MOST_BODY {
        match body.frame().await {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => return,
        }
    }
}

fn request(http: &Http, values: &Binding, version: Option<&str>) -> Result<Request<Full<Bytes>>, Failure> {
    let target = http.url.target(values, version).map_err(|e| wrong(e.to_string()))?;
    let body = http.body.as_ref().map(|b| b.fill(values, version));
    let mut request = Request::builder()
        .method(http.method.as_str())
        .uri(target)
        .header(HOST, http.url.authority())
        .header(USER_AGENT, concat!("pgevict/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from(body.clone().unwrap_or_default())))
        .map_err(|e| wrong(e.to_string()))?;
    if body.is_some() {
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, value) in &http.headers {
        let (name, value) = (HeaderName::try_from(name), HeaderValue::try_from(value.expose()));
        let (Ok(name), Ok(value)) = (name, value) else { return Err(wrong("a header cannot be sent".into())) };
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

fn later(why: String) -> Failure {
    Failure { why, hopeless: false }
}

fn wrong(why: String) -> Failure {
    Failure { why, hopeless: true }
}
