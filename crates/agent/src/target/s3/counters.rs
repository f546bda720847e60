//! What went over the wire to one endpoint.
//!
//! Counts requests, not operations: a multipart put is one operation and several requests, and a hidden retry
//! would show up here as one request more. How operations fared is in the endpoint rows of each worker's account.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Live counters of one (core, endpoint), written by that core only.
#[derive(Debug, Default)]
pub(super) struct Counters {
    data_requests: AtomicU64,
    other_requests: AtomicU64,
    statuses: [AtomicU64; 6],
    connects: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    /// Operations under way, for `LeastBusy`.
    under_way: AtomicU32,
}

impl Counters {
    pub(super) fn request(&self, data: bool, body_bytes: u64) {
        let counter = if data { &self.data_requests } else { &self.other_requests };
        counter.fetch_add(1, Ordering::Relaxed);
        self.bytes_sent.fetch_add(body_bytes, Ordering::Relaxed);
    }

    pub(super) fn status(&self, status: u16) {
        self.statuses[usize::from(status / 100).min(5)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn connecting(&self) {
        self.connects.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: u64) {
        self.bytes_received.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn under_way(&self) -> u32 {
        self.under_way.load(Ordering::Relaxed)
    }

    pub(super) fn read(&self) -> WireCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WireCounts {
            data_requests: read(&self.data_requests),
            other_requests: read(&self.other_requests),
            statuses: std::array::from_fn(|class| read(&self.statuses[class])),
            connects: read(&self.connects),
            bytes_sent: read(&self.bytes_sent),
            bytes_received: read(&self.bytes_received),
        }
    }
}

/// What went over the wire to one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireCounts {
    /// Requests of workers' operations.
    pub data_requests: u64,
    /// Requests around them: checks, lock, marker.
    pub other_requests: u64,
    /// Answers by the first digit of their status; 0 is unused.
    pub statuses: [u64; 6],
    /// Connections that were begun.
    pub connects: u64,
    /// Bytes of request bodies.
    pub bytes_sent: u64,
    /// Bytes of answers' bodies.
    pub bytes_received: u64,
}

impl WireCounts {
    /// Adds those of another core.
    pub fn add(&mut self, other: &Self) {
        self.data_requests += other.data_requests;
        self.other_requests += other.other_requests;
        for (sum, more) in self.statuses.iter_mut().zip(other.statuses) {
            *sum += more;
        }
        self.connects += other.connects;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
    }
}
