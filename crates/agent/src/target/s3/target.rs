//! The S3 target of one worker.
//!
//! One operation is one request, except a put above `partSize`, which is a multipart upload with one part under way at
//! a time (create, parts, complete). Memory is bounded by one part for puts and one read buffer for gets.
//! Content is made inside the operation, as a client makes or reads what it sends. Dropping a future closes its
//! connection, and so ends its I/O; an upload left unfinished by that is aborted in the background.

use super::classify::Fault;
use super::client::{Link, S3Client};
use super::content::Checker;
use super::counters::Counters;
use super::options::MAX_PARTS;
use super::store::{Store, path};
use super::timer::Timer;
use super::transport::Trace;
use super::upload::Upload;
use crate::clock::now_ns;
use crate::engine::hands::Hands;
use crate::target::backend::Account;
use crate::target::{Done, Failure, Object, Outcome, Target};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use lockstep_core::dataset::content::Contents;
use lockstep_core::op::{ErrorClass, Op};
use lockstep_core::plan::EndpointSelection;
use lockstep_core::results::part::EndpointRow;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutOptions, PutPayload};
use std::sync::Arc;

/// Content is made in pieces of this size, with a look at the stop flag between them, bytes.
const FILL_BYTES: usize = 1 << 20;

/// What one worker can do to a bucket.
#[derive(Debug)]
pub struct S3Target {
    client: S3Client,
    stores: Vec<Store>,
    trace: Arc<Trace>,
    hands: Hands,
    contents: Contents,
    rows: Vec<EndpointRow>,
    /// Endpoint of the latest operation.
    latest: usize,
    key: String,
    /// Content of the put before; its memory is used again once the connection has let go of it.
    body: Bytes,
    timer: Option<Timer>,
}

/// Why an operation came to nothing.
enum Trouble {
    /// The client library said so.
    Store(object_store::Error),
    /// We say so.
    Ours(Fault),
}

impl From<object_store::Error> for Trouble {
    fn from(error: object_store::Error) -> Self {
        Self::Store(error)
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Ours(fault)
    }
}

/// An operation under way: where, since when. Counts as busy until dropped, also when the future is.
struct UnderWay {
    endpoint: usize,
    started_ns: u64,
    counters: Arc<Counters>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.counters.end();
    }
}

impl S3Target {
    pub(super) fn new(
        client: S3Client,
        contents: Contents,
        stores: Vec<Store>,
        trace: Arc<Trace>,
        hands: Hands,
    ) -> Self {
        let rows = rows(&client);
        let (key, body) = (String::new(), Bytes::new());
        Self { client, stores, trace, hands, contents, rows, latest: 0, key, body, timer: None }
    }

    fn choose(&self, index: u64) -> usize {
        let links = &self.client.links;
        let site = &self.client.site;
        match site.selection {
            _ if links.len() == 1 => 0,
            EndpointSelection::RoundRobin => (index % links.len() as u64) as usize,
            EndpointSelection::PerAgent => site.agent_index as usize % links.len(),
            EndpointSelection::LeastBusy => {
                // Ties go round by index, or an idle cluster would see one endpoint only.
                let first = (index % links.len() as u64) as usize;
                let turn = (0..links.len()).map(|step| (first + step) % links.len());
                turn.min_by_key(|endpoint| links[*endpoint].counters.under_way()).unwrap_or(first)
            }
        }
    }

    fn begin(&mut self, object: &Object<'_>) -> UnderWay {
        let endpoint = self.choose(object.index);
        let counters = Arc::clone(&self.client.links[endpoint].counters);
        counters.begin();
        self.trace.begin();
        self.latest = endpoint;
        UnderWay { endpoint, started_ns: now_ns(), counters }
    }

    #[allow(clippy::needless_pass_by_value, reason = "takes the operation to its end")]
    fn end(&mut self, way: UnderWay, op: Op, name: &str, result: Result<u64, Trouble>) -> Outcome {
        let service_ns = now_ns().saturating_sub(way.started_ns);
        let row = &mut self.rows[way.endpoint];
        row.requests += self.trace.take_requests();
        match result {
            Ok(bytes) => {
                row.service.record(service_ns);
                match op {
                    Op::Get => row.bytes_in += bytes,
                    Op::Put => row.bytes_out += bytes,
                    Op::Head | Op::List | Op::Delete => {}
                }
                Ok(Done { bytes, first_byte_ns: self.trace.first_byte_ns() })
            }
            Err(trouble) => {
                let fault = match trouble {
                    Trouble::Store(error) => self.stores[way.endpoint].fault(&error),
                    Trouble::Ours(fault) => fault,
                };
                let row = &mut self.rows[way.endpoint];
                row.errors[fault.class.index()] += 1;
                Err(Failure { class: fault.class, detail: fault.sentence(verb(op), name, &row.uri) })
            }
        }
    }

    fn path(&mut self, name: &str) -> Result<Path, Fault> {
        self.client.site.key_into(name, &mut self.key);
        path(&self.key)
    }

    async fn read(&mut self, endpoint: usize, object: &Object<'_>, verify: bool) -> Result<u64, Trouble> {
        let path = self.path(object.name)?;
        let result = self.stores[endpoint].s3.get_opts(&path, GetOptions::default()).await?;
        let mut stream = result.into_stream();
        let mut checker = verify.then(|| Checker::new(self.contents, object.index));
        let mut received = 0;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            self.hands.moved();
            if let Some(checker) = &mut checker {
                checker.take(&chunk).map_err(corrupt)?;
            }
            received += chunk.len() as u64;
        }
        if received != object.size {
            return Err(corrupt(format!("{received} bytes instead of {}", object.size)).into());
        }
        if let Some(checker) = checker {
            checker.finish().map_err(corrupt)?;
        }
        Ok(received)
    }

    async fn write(&mut self, endpoint: usize, object: &Object<'_>) -> Result<u64, Trouble> {
        let path = self.path(object.name)?;
        let part_bytes = self.client.site.options.part_bytes.max(object.size.div_ceil(MAX_PARTS));
        if object.size <= part_bytes {
            let body = self.content(object.index, 0, object.size)?;
            let s3 = &self.stores[endpoint].s3;
            s3.put_opts(&path, PutPayload::from(body), PutOptions::default()).await?;
            return Ok(object.size);
        }
        let upload = self.stores[endpoint].s3.put_multipart(&path).await?;
        let mut upload = Upload::new(upload);
        let mut offset = 0;
        while offset < object.size {
            let bytes = part_bytes.min(object.size - offset);
            let body = self.content(object.index, offset, bytes)?;
            upload.part(body).await?;
            self.hands.moved();
            offset += bytes;
        }
        upload.complete().await?;
        Ok(object.size)
    }

    /// `bytes` of the object's content from `offset` on.
    fn content(&mut self, index: u64, offset: u64, bytes: u64) -> Result<Bytes, Fault> {
        let length = bytes as usize;
        let mut buffer = match std::mem::take(&mut self.body).try_into_mut() {
            Ok(buffer) if buffer.len() >= length => buffer,
            _ => BytesMut::zeroed(length),
        };
        let mut at = offset;
        for piece in buffer[..length].chunks_mut(FILL_BYTES) {
            if self.hands.stopped() {
                return Err(Fault::transport(ErrorClass::Other, "stopped".into()));
            }
            self.contents.fill(index, 0, at, piece);
            at += piece.len() as u64;
        }
        self.body = buffer.freeze();
        Ok(self.body.slice(..length))
    }

    async fn look(&mut self, endpoint: usize, object: &Object<'_>) -> Result<u64, Trouble> {
        let path = self.path(object.name)?;
        Ok(self.stores[endpoint].s3.head(&path).await?.size)
    }

    async fn page(&mut self, endpoint: usize, object: &Object<'_>) -> Result<u64, Trouble> {
        let directory = object.name.rsplit_once('/').map_or("", |(directory, _)| directory);
        self.client.site.key_into(directory, &mut self.key);
        if !self.key.is_empty() && !self.key.ends_with('/') {
            self.key.push('/');
        }
        let prefix = Some(self.key.as_str()).filter(|prefix| !prefix.is_empty());
        let options = PaginatedListOptions {
            delimiter: Some("/".into()),
            max_keys: Some(1_000),
            ..PaginatedListOptions::default()
        };
        let page = self.stores[endpoint].s3.list_paginated(prefix, options).await?.result;
        Ok((page.objects.len() + page.common_prefixes.len()) as u64)
    }

    async fn remove(&mut self, endpoint: usize, object: &Object<'_>) -> Result<u64, Trouble> {
        let path = self.path(object.name)?;
        self.stores[endpoint].s3.delete(&path).await?;
        Ok(0)
    }
}

/// A row for each endpoint, with nothing in it.
fn rows(client: &S3Client) -> Vec<EndpointRow> {
    let row = |link: &Link| EndpointRow { uri: link.endpoint.clone(), ..EndpointRow::default() };
    client.links.iter().map(row).collect()
}

/// The operation as HTTP and S3 call it.
fn verb(op: Op) -> &'static str {
    match op {
        Op::Get => "GET",
        Op::Put => "PUT",
        Op::Head => "HEAD",
        Op::List => "LIST",
        Op::Delete => "DELETE",
    }
}

fn corrupt(what: String) -> Fault {
    Fault::transport(ErrorClass::Corrupt, what)
}

impl Target for S3Target {
    async fn get(&mut self, object: Object<'_>, verify: bool) -> Outcome {
        let way = self.begin(&object);
        let result = self.read(way.endpoint, &object, verify).await;
        self.end(way, Op::Get, object.name, result)
    }

    async fn put(&mut self, object: Object<'_>) -> Outcome {
        let way = self.begin(&object);
        let result = self.write(way.endpoint, &object).await;
        self.end(way, Op::Put, object.name, result)
    }

    async fn head(&mut self, object: Object<'_>) -> Outcome {
        let way = self.begin(&object);
        let result = self.look(way.endpoint, &object).await;
        self.end(way, Op::Head, object.name, result)
    }

    async fn list(&mut self, object: Object<'_>) -> Outcome {
        let way = self.begin(&object);
        let result = self.page(way.endpoint, &object).await;
        self.end(way, Op::List, object.name, result)
    }

    async fn delete(&mut self, object: Object<'_>) -> Outcome {
        let way = self.begin(&object);
        let result = self.remove(way.endpoint, &object).await;
        self.end(way, Op::Delete, object.name, result)
    }

    async fn wait_until(&mut self, at_ns: u64) {
        if now_ns() >= at_ns {
            return;
        }
        let timer = self.timer.get_or_insert_with(Timer::new);
        tokio::select! {
            () = timer.wait_until(at_ns) => {}
            () = self.hands.stop.wait() => {}
        }
    }

    async fn breathe(&mut self) {
        tokio::task::yield_now().await;
    }

    fn account(&mut self) -> Account {
        // Of an operation that was dropped only the requests are left.
        self.rows[self.latest].requests += self.trace.take_requests();
        Account { endpoints: std::mem::replace(&mut self.rows, rows(&self.client)), other_requests: 0 }
    }
}
