//! What was measured: histograms and cells, the recorder of a worker, per-second series, the part that one
//! attempt of one agent hands in for one stage, and the report that all parts are merged into.
//!
//! Every merge here is exact and does not depend on the order of what is merged, so a cluster's percentiles are
//! those of its operations and not averages of averages. Deliberately without I/O and without a clock: instants
//! are arguments, in nanoseconds of whichever monotonic clock the caller names.

pub mod cell;
pub mod histogram;
pub mod ledger;
pub mod merge;
pub mod part;
pub mod recorder;
pub mod report;
pub mod response;
pub mod series;
pub mod stage;
pub mod totals;
pub mod tsv;
mod wire;

pub use cell::{Cell, Latency, Sample};
pub use histogram::Histogram;
pub use ledger::{DatasetLedger, OperationsLedgerRow, operations_ledger};
pub use merge::{merge_stage, merge_totals};
pub use part::{PartState, StagePart};
pub use recorder::{Interval, LoopKind, Recorder, StageRecord, StageWindow};
pub use report::Report;
pub use series::Series;
pub use stage::{StageFacts, StageReport};
pub use totals::Totals;
