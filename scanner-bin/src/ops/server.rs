//! The HTTP endpoints: `/startupz`, `/livez`, `/readyz` and `/metrics`, on a thread of their own, so
//! that they answer whatever the rest of the process does.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::health::{Health, Probe};
use super::metrics::Metrics;

/// Connections served at a time; one more cuts the oldest off.
const MAX_CONNECTIONS: usize = 64;
/// Time in which a client must have sent its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that a whole exchange may take. One connection carries one exchange.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);

const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The endpoints could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; choose another address with --listen (port 0 takes a free one)"
    )]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The thread or its runtime cannot be started.
    #[error(
        "the thread for probes and metrics cannot be started: {0}; the process may be out of threads or files"
    )]
    Start(#[source] io::Error),
}

/// The running endpoints. Dropping it stops them and waits for their thread.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Listens on `address` and serves from a new thread.
    ///
    /// # Errors
    ///
    /// [`ServerError`] if the address is taken or not of this host, or no thread can be had.
    pub fn start(
        address: SocketAddr,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> Result<Server, ServerError> {
        let bind = |source| ServerError::Bind { address, source };
        let listener = TcpListener::bind(address).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ServerError::Start)?;
        let (stop, stopped) = oneshot::channel();
        let endpoints = Arc::new(Endpoints {
            health,
            metrics,
            was_ready: AtomicBool::new(true),
        });
        let serve = move || {
            runtime.block_on(async {
                tokio::spawn(accept(listener, endpoints));
                // Resolves when the server is dropped; the runtime goes and takes its tasks along.
                let _stopped = stopped.await;
            });
        };
        let thread = thread::Builder::new()
            .name("ops".to_owned())
            .spawn(serve)
            .map_err(ServerError::Start)?;
        Ok(Server {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The address that it listens on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The receiver goes by the sender being dropped, too.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It cannot be joined only if it panicked, and then there is nothing left to stop.
            let _panic = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, endpoints: Arc<Endpoints>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "Probes and metrics cannot be served");
            return;
        }
    };
    let mut connections: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                // Out of files, most likely: wait for some to be closed.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() >= MAX_CONNECTIONS {
            // The oldest has been silent for longest; whoever has something to ask is answered at once.
            connections.pop_front().inspect(JoinHandle::abort);
        }
        connections.push_back(tokio::spawn(serve(stream, Arc::clone(&endpoints))));
    }
}

async fn serve(stream: TcpStream, endpoints: Arc<Endpoints>) {
    let answer = service_fn(move |request| {
        let response = endpoints.answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), answer);
    // A client that hangs up or dawdles is its own problem.
    let _ended = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
}

struct Endpoints {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    was_ready: AtomicBool,
}

impl Endpoints {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let probe = match request.uri().path() {
            "/startupz" => Some(Probe::Startup),
            "/livez" => Some(Probe::Live),
            "/readyz" => Some(Probe::Ready),
            "/metrics" => None,
            _ => {
                return error(
                    StatusCode::NOT_FOUND,
                    "not found: try /startupz, /livez, /readyz or /metrics",
                );
            }
        };
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = error(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD are answered here",
            );
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match probe {
            Some(probe) => self.probe(probe),
            None => response(StatusCode::OK, OPEN_METRICS, self.metrics.encode()),
        }
    }

    fn probe(&self, probe: Probe) -> Response<Full<Bytes>> {
        let answer = self.health.answer(probe);
        if probe == Probe::Ready && self.was_ready.swap(answer.ok, Ordering::Relaxed) != answer.ok {
            match answer.ok {
                true => tracing::info!("ready"),
                false => tracing::warn!("not ready: {}", answer.failures()),
            }
        }
        let status = if answer.ok {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        // An answer is strings and booleans, which always serialise.
        response(
            status,
            JSON,
            serde_json::to_string(&answer).unwrap_or_default(),
        )
    }
}

fn error(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    response(
        status,
        JSON,
        serde_json::json!({ "error": message }).to_string(),
    )
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
