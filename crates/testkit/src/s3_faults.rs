//! How [`crate::s3::TestS3`] fails: which requests, in which way, how often.

use crate::echo::{Echo, Manner};
use crate::s3::{ReplyBody, Seen, error_reply};
use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Sleep;

/// What goes wrong.
#[derive(Clone, Debug)]
enum What {
    Status(u16, &'static str),
    Garbage,
    Close,
    Delay(Duration),
    Hang,
    SlowBody { piece: usize, pause: Duration },
    CutBody { after: usize },
    FlipBody { at: usize },
    Echo(Echo, Manner),
}

/// A fault: what goes wrong, for which requests. Made with one of the constructors; applies to every request unless
/// narrowed.
#[derive(Clone, Debug)]
pub struct Fault {
    what: What,
    verb: Option<String>,
    key_part: Option<String>,
    skip: usize,
    times: usize,
}

impl Fault {
    fn new(what: What) -> Self {
        Self { what, verb: None, key_part: None, skip: 0, times: usize::MAX }
    }

    /// An answer with this status and S3 error code; an empty code is an answer without a body.
    #[must_use]
    pub fn status(status: u16, code: &'static str) -> Self {
        Self::new(What::Status(status, code))
    }

    /// 403 `AccessDenied`.
    #[must_use]
    pub fn deny() -> Self {
        Self::status(403, "AccessDenied")
    }

    /// A success with a web page in it.
    #[must_use]
    pub fn garbage() -> Self {
        Self::new(What::Garbage)
    }

    /// The connection is closed instead of an answer.
    #[must_use]
    pub fn close() -> Self {
        Self::new(What::Close)
    }

    /// The request is served, this much later.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self::new(What::Delay(delay))
    }

    /// The request is not served until [`FaultHandle::release`].
    #[must_use]
    pub fn hang() -> Self {
        Self::new(What::Hang)
    }

    /// The answer's body comes in pieces of so many bytes with a pause before each.
    #[must_use]
    pub fn slow_body(piece: usize, pause: Duration) -> Self {
        Self::new(What::SlowBody { piece, pause })
    }

    /// The connection is closed after so many bytes of the answer's body.
    #[must_use]
    pub fn cut_body(after: usize) -> Self {
        Self::new(What::CutBody { after })
    }

    /// One byte of the answer's body is another one.
    #[must_use]
    pub fn flip_body(at: usize) -> Self {
        Self::new(What::FlipBody { at })
    }

    /// An answer that says everything secret that there is about the request, in this manner.
    #[must_use]
    pub fn echo(echo: &Echo, manner: Manner) -> Self {
        Self::new(What::Echo(echo.clone(), manner))
    }

    /// Only for this verb (see [`Seen::verb`]).
    #[must_use]
    pub fn verb(mut self, verb: &str) -> Self {
        self.verb = Some(verb.to_owned());
        self
    }

    /// Only for keys that contain this.
    #[must_use]
    pub fn key(mut self, part: &str) -> Self {
        self.key_part = Some(part.to_owned());
        self
    }

    /// Lets the first so many requests through that it would apply to.
    #[must_use]
    pub fn skip(mut self, requests: usize) -> Self {
        self.skip = requests;
        self
    }

    /// Applies to so many requests and no more.
    #[must_use]
    pub fn times(mut self, requests: usize) -> Self {
        self.times = requests;
        self
    }
}

/// A fault in force.
#[derive(Clone, Debug)]
pub struct FaultHandle {
    number: usize,
    hits: Arc<AtomicUsize>,
    faults: Arc<Faults>,
    release: watch::Sender<bool>,
}

impl FaultHandle {
    /// How many requests it applied to.
    #[must_use]
    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    /// Lets the requests that hang go on, and ends the fault.
    pub fn release(&self) {
        self.faults.remove(self.number);
        let _ = self.release.send(true);
    }
}

#[derive(Debug)]
struct Entry {
    number: usize,
    fault: Fault,
    hits: Arc<AtomicUsize>,
    matched: usize,
    release: watch::Receiver<bool>,
}

/// The faults in force.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    entries: Mutex<Vec<Entry>>,
    next: AtomicUsize,
}

impl Faults {
    pub(crate) fn add(self: &Arc<Self>, fault: Fault) -> FaultHandle {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let hits = Arc::new(AtomicUsize::new(0));
        let (release, released) = watch::channel(false);
        let entry = Entry { number, fault, hits: Arc::clone(&hits), matched: 0, release: released };
        self.lock().push(entry);
        FaultHandle { number, hits, faults: Arc::clone(self), release }
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    pub(crate) fn choose(&self, seen: &Seen) -> Option<Action> {
        for entry in self.lock().iter_mut() {
            let fault = &entry.fault;
            let applies = fault.verb.as_ref().is_none_or(|verb| *verb == seen.verb)
                && fault.key_part.as_ref().is_none_or(|part| seen.key.contains(part));
            if !applies {
                continue;
            }
            entry.matched += 1;
            if entry.matched <= fault.skip || entry.matched - fault.skip > fault.times {
                continue;
            }
            entry.hits.fetch_add(1, Ordering::SeqCst);
            return Some(match fault.what.clone() {
                What::Status(status, code) => Action::Instead(Instead::Status(status, code)),
                What::Garbage => Action::Instead(Instead::Garbage),
                What::Close => Action::Instead(Instead::Close),
                What::Delay(delay) => Action::Before(Wait::For(delay)),
                What::Hang => Action::Before(Wait::Until(entry.release.clone())),
                What::SlowBody { piece, pause } => Action::Body(Change::Slow { piece, pause }),
                What::CutBody { after } => Action::Body(Change::Cut { after }),
                What::FlipBody { at } => Action::Body(Change::Flip { at }),
                What::Echo(echo, manner) => Action::Instead(Instead::Echo(echo, manner)),
            });
        }
        None
    }

    fn remove(&self, number: usize) {
        self.lock().retain(|entry| entry.number != number);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do with one request.
pub(crate) enum Action {
    Before(Wait),
    Instead(Instead),
    Body(Change),
}

pub(crate) enum Wait {
    For(Duration),
    Until(watch::Receiver<bool>),
}

impl Wait {
    pub(crate) async fn over(self) {
        match self {
            Self::For(delay) => tokio::time::sleep(delay).await,
            // A handle that was dropped releases nobody: the test wants the hang to last.
            Self::Until(mut released) => {
                if released.wait_for(|released| *released).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

pub(crate) enum Instead {
    Status(u16, &'static str),
    Garbage,
    Close,
    Echo(Echo, Manner),
}

impl Instead {
    pub(crate) fn reply(self, request: &http::request::Parts) -> io::Result<Response<ReplyBody>> {
        match self {
            Self::Echo(echo, manner) => Ok(echo.reply(request, &manner)),
            Self::Status(status, code) => Ok(error_reply(status, code)),
            Self::Garbage => {
                let page = Full::new(Bytes::from_static(b"<html><body>Welcome to the console</body></html>"));
                Ok(Response::new(page.map_err(|never| match never {}).boxed()))
            }
            Self::Close => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

pub(crate) enum Change {
    Slow { piece: usize, pause: Duration },
    Cut { after: usize },
    Flip { at: usize },
}

impl Change {
    pub(crate) fn apply(self, inner: ReplyBody) -> ReplyBody {
        Changed { inner, change: self, sent: 0, kept: Bytes::new(), sleep: None }.boxed()
    }
}

struct Changed {
    inner: ReplyBody,
    change: Change,
    sent: usize,
    kept: Bytes,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Changed {
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        while self.kept.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) => self.kept = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(Ok(std::mem::take(&mut self.kept))))
    }
}

impl Body for Changed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let Some(data) = ready!(this.poll_data(context)) else { return Poll::Ready(None) };
        let mut data = data?;
        if let Change::Slow { pause, .. } = this.change {
            let sleep = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            if sleep.as_mut().poll(context).is_pending() {
                this.kept = data;
                return Poll::Pending;
            }
            this.sleep = None;
        }
        match this.change {
            Change::Slow { piece, .. } => this.kept = data.split_off(piece.min(data.len())),
            Change::Cut { after } if this.sent == after => {
                return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
            }
            Change::Cut { after } => this.kept = data.split_off((after - this.sent).min(data.len())),
            Change::Flip { at } => {
                if (this.sent..this.sent + data.len()).contains(&at) {
                    let mut bytes = data.to_vec();
                    bytes[at - this.sent] ^= 0x20;
                    data = bytes.into();
                }
            }
        }
        this.sent += data.len();
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
