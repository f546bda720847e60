//! The table of everything that was done: cells by operation and size class, and what is counted beside them.
//!
//! The same type holds a second of one worker, a stage of one agent and a stage of the whole cluster; merging is
//! exact, and its order does not matter. Cells are allocated when they are first used. Deliberately without a
//! window, and so without rates.

use super::cell::{Cell, Sample};
use super::wire::bounded_list;
use crate::op::{ErrorClass, Op, SizeClass};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many cells a table can have.
const CELLS: usize = Op::ALL.len() * SizeClass::COUNT;

/// Cells by operation and size class, and what is counted beside them.
#[derive(Clone, Debug)]
pub struct Totals {
    cells: [Option<Box<Cell>>; CELLS],
    /// Deletes that found nothing to delete: nothing was sent.
    pub starved_deletes: u64,
    /// Operations of an open loop that were never sent, because the window ended first.
    pub dropped_starts: u64,
    /// Operations done again because the attempt that did them first was lost.
    pub repeated_operations: u64,
    /// Requests sent again after a failure; each is one request more than the operations show.
    pub retries: u64,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            cells: [const { None }; CELLS],
            starved_deletes: 0,
            dropped_starts: 0,
            repeated_operations: 0,
            retries: 0,
        }
    }
}

impl Totals {
    /// An empty table; allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The cell of an operation and size class, if anything was recorded in it.
    #[must_use]
    pub fn cell(&self, op: Op, class: SizeClass) -> Option<&Cell> {
        self.cells[cell_index(op, class)].as_deref().filter(|cell| !cell.is_empty())
    }

    /// The same to write to, made when it is not there.
    #[inline]
    pub fn cell_mut(&mut self, op: Op, class: SizeClass) -> &mut Cell {
        self.cells[cell_index(op, class)].get_or_insert_default()
    }

    /// Counts an operation that succeeded; arguments as [`Cell::record_ok`].
    #[inline]
    pub fn record_ok(&mut self, sample: &Sample, open_loop: bool, drained: bool) {
        self.cell_mut(sample.op, SizeClass::of(sample.size_bytes)).record_ok(sample, open_loop, drained);
    }

    /// Counts an operation that failed.
    #[inline]
    pub fn record_error(&mut self, sample: &Sample, class: ErrorClass) {
        self.cell_mut(sample.op, SizeClass::of(sample.size_bytes)).record_error(sample, class);
    }

    /// The cells that hold something, by operation and then by size class.
    pub fn iter(&self) -> impl Iterator<Item = (Op, SizeClass, &Cell)> + '_ {
        Op::ALL.into_iter().flat_map(move |op| {
            (0..SizeClass::COUNT).filter_map(move |class| {
                let class = SizeClass::from_index(class)?;
                Some((op, class, self.cell(op, class)?))
            })
        })
    }

    /// All size classes of one operation, merged; empty when there was none.
    #[must_use]
    pub fn by_op(&self, op: Op) -> Cell {
        self.rolled_up(|of, _| of == op)
    }

    /// All operations, merged.
    #[must_use]
    pub fn overall(&self) -> Cell {
        self.rolled_up(|_, _| true)
    }

    /// The merged cells of the operations and classes that `wanted` names.
    #[must_use]
    pub fn rolled_up(&self, wanted: impl Fn(Op, SizeClass) -> bool) -> Cell {
        let mut sum = Cell::default();
        for (op, class, cell) in self.iter() {
            if wanted(op, class) {
                sum.merge(cell);
            }
        }
        sum
    }

    /// Operations that succeeded, drained ones included.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.iter().fold(0, |sum, (_, _, cell)| sum.saturating_add(cell.count()))
    }

    /// Operations that failed.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.iter().fold(0, |sum, (_, _, cell)| sum.saturating_add(cell.error_count()))
    }

    /// Bytes moved by operations that succeeded.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.iter().fold(0, |sum, (_, _, cell)| sum.saturating_add(cell.bytes))
    }

    /// Requests that were sent for operations: those that succeeded, those that failed, and retries. Requests
    /// that serve no operation (markers, probes) are [`super::part::StagePart::other_requests`].
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.operations().saturating_add(self.errors()).saturating_add(self.retries)
    }

    /// Adds another table, exactly.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.cells.iter_mut().zip(&other.cells) {
            if let Some(theirs) = theirs.as_deref().filter(|cell| !cell.is_empty()) {
                mine.get_or_insert_default().merge(theirs);
            }
        }
        self.starved_deletes = self.starved_deletes.saturating_add(other.starved_deletes);
        self.dropped_starts = self.dropped_starts.saturating_add(other.dropped_starts);
        self.repeated_operations = self.repeated_operations.saturating_add(other.repeated_operations);
        self.retries = self.retries.saturating_add(other.retries);
    }

    /// Forgets everything; cells that were in use keep their memory, the others are given back.
    pub fn clear(&mut self) {
        for slot in &mut self.cells {
            match slot {
                Some(cell) if !cell.is_empty() => cell.clear(),
                _ => *slot = None,
            }
        }
        self.starved_deletes = 0;
        self.dropped_starts = 0;
        self.repeated_operations = 0;
        self.retries = 0;
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
            && (self.starved_deletes, self.dropped_starts, self.repeated_operations, self.retries)
                == (0, 0, 0, 0)
    }
}

#[inline]
const fn cell_index(op: Op, class: SizeClass) -> usize {
    op.index() * SizeClass::COUNT + class.index()
}

/// Two tables are equal when what they hold is, whatever memory they keep.
impl PartialEq for Totals {
    fn eq(&self, other: &Self) -> bool {
        self.starved_deletes == other.starved_deletes
            && self.dropped_starts == other.dropped_starts
            && self.repeated_operations == other.repeated_operations
            && self.retries == other.retries
            && self.iter().eq(other.iter())
    }
}

impl Eq for Totals {}

/// One row of the encoded form; the size class is its number, and is checked when read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EncodedCell<C> {
    op: Op,
    class: usize,
    cell: C,
}

/// The encoded form: only cells that hold something.
#[derive(Serialize, Deserialize)]
struct Encoded<C> {
    #[serde(bound(deserialize = "C: Deserialize<'de>"))]
    #[serde(deserialize_with = "bounded_list::<_, _, CELLS>")]
    cells: Vec<EncodedCell<C>>,
    starved_deletes: u64,
    dropped_starts: u64,
    repeated_operations: u64,
    retries: u64,
}

impl Serialize for Totals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Encoded {
            cells: self
                .iter()
                .map(|(op, class, cell)| EncodedCell { op, class: class.index(), cell })
                .collect(),
            starved_deletes: self.starved_deletes,
            dropped_starts: self.dropped_starts,
            repeated_operations: self.repeated_operations,
            retries: self.retries,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Totals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let encoded = Encoded::<Cell>::deserialize(deserializer)?;
        let mut totals = Self {
            starved_deletes: encoded.starved_deletes,
            dropped_starts: encoded.dropped_starts,
            repeated_operations: encoded.repeated_operations,
            retries: encoded.retries,
            ..Self::default()
        };
        for EncodedCell { op, class, cell } in encoded.cells {
            let class = SizeClass::from_index(class).ok_or_else(|| D::Error::custom("no such size class"))?;
            totals.cell_mut(op, class).merge(&cell);
        }
        Ok(totals)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// One record of any kind.
    type Record = (Sample, Option<ErrorClass>, bool, bool);

    fn record() -> impl Strategy<Value = Record> {
        let kind =
            (0..Op::ALL.len(), 0..SizeClass::COUNT, prop::option::weighted(0.2, 0..ErrorClass::ALL.len()));
        let times = (0u64..1 << 40, 0u64..5_000_000, prop::option::of(0u64..1 << 30), 0u64..1 << 43);
        (kind, times, any::<bool>(), any::<bool>()).prop_map(
            |((op, class, error), times, open_loop, drained)| {
                let (intended_ns, lag_ns, first_byte_ns, service_ns) = times;
                let start_ns = intended_ns + if open_loop { lag_ns } else { 0 };
                let size_bytes = SizeClass::UPPER_BYTES[class].min(3 << 30);
                let first_byte_ns = first_byte_ns.map(|ns| start_ns + ns);
                let end_ns = start_ns + service_ns;
                let op = Op::ALL[op];
                let sample = Sample { op, size_bytes, intended_ns, start_ns, first_byte_ns, end_ns };
                (sample, error.map(|class| ErrorClass::ALL[class]), open_loop, drained)
            },
        )
    }

    fn totals_of(records: &[Record]) -> Totals {
        let mut totals = Totals::new();
        for (sample, error, open_loop, drained) in records {
            match error {
                Some(class) => totals.record_error(sample, *class),
                None => totals.record_ok(sample, *open_loop, *drained),
            }
            totals.retries += sample.end_ns % 2;
            totals.starved_deletes += sample.end_ns % 3;
            totals.dropped_starts += sample.end_ns % 5;
            totals.repeated_operations += sample.end_ns % 7;
        }
        totals
    }

    /// Tables of any content.
    pub(crate) fn any_totals() -> impl Strategy<Value = Totals> {
        vec(record(), 0..40).prop_map(|records| totals_of(&records))
    }

    fn sum(tables: &[&Totals]) -> Totals {
        let mut sum = Totals::new();
        for table in tables {
            sum.merge(table);
        }
        sum
    }

    proptest! {
        #[test]
        fn merging_equals_recording_in_one_place(a in vec(record(), 0..30), b in vec(record(), 0..30)) {
            let whole = totals_of(&[&a[..], &b].concat());
            prop_assert_eq!(sum(&[&totals_of(&a), &totals_of(&b)]), whole);
        }

        #[test]
        fn merging_has_no_order(a in any_totals(), b in any_totals(), c in any_totals()) {
            let whole = sum(&[&a, &b, &c]);
            prop_assert_eq!(&sum(&[&c, &a, &b]), &whole);
            prop_assert_eq!(&sum(&[&a, &sum(&[&b, &c])]), &whole);
            prop_assert_eq!(&sum(&[&Totals::new(), &a, &Totals::new(), &b, &c]), &whole);
        }

        #[test]
        fn tables_survive_json(totals in any_totals()) {
            let json = serde_json::to_string(&totals).expect("serialises");
            prop_assert_eq!(serde_json::from_str::<Totals>(&json).expect("reads"), totals);
        }

        #[test]
        fn sums_over_cells_are_those_of_the_whole(totals in any_totals()) {
            let overall = totals.overall();
            prop_assert_eq!(overall.count(), totals.operations());
            prop_assert_eq!(overall.error_count(), totals.errors());
            prop_assert_eq!(overall.bytes, totals.bytes());
            let by_op: u64 = Op::ALL.into_iter().map(|op| totals.by_op(op).count()).sum();
            prop_assert_eq!(by_op, totals.operations());
            prop_assert_eq!(totals.requests(), totals.operations() + totals.errors() + totals.retries);
        }

        #[test]
        fn a_cleared_table_is_as_good_as_a_new_one(a in any_totals(), b in vec(record(), 0..30)) {
            // Of one kind of loop, as a recorder reuses it.
            let b: Vec<_> = b.into_iter().filter(|(_, _, open_loop, _)| *open_loop).collect();
            let mut reused = a;
            reused.clear();
            prop_assert!(reused.is_empty());
            prop_assert_eq!(&reused, &Totals::new());
            for (sample, error, open_loop, drained) in &b {
                match error {
                    Some(class) => reused.record_error(sample, *class),
                    None => reused.record_ok(sample, *open_loop, *drained),
                }
            }
            let want = totals_of(&b);
            prop_assert_eq!(reused.iter().collect::<Vec<_>>(), want.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_size_class_that_does_not_exist_is_refused() {
        let mut totals = Totals::new();
        totals.cell_mut(Op::Put, SizeClass::of(1)).errors[0] = 1;
        let json = serde_json::to_string(&totals).expect("serialises");
        assert!(serde_json::from_str::<Totals>(&json).is_ok());
        assert!(serde_json::from_str::<Totals>(&json.replace("\"class\":1", "\"class\":9")).is_err());
    }
}
