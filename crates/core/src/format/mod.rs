//! Numbers as people read them: latencies, spans, bytes, counts, shares, and tables of them.
//!
//! One place, so that the live display, the final table, a dry run and a status say the same number in the same way.
//! Everything is pure and rounds half up. Deliberately without localisation: output is grepped and compared.

pub mod amount;
pub mod table;
pub mod time;

pub use amount::{bytes, bytes_per_s, count, decimal_milli, mebibytes, percent, short_count};
pub use table::Table;
pub use time::{clock, latency, latency_as, long_span, span};
