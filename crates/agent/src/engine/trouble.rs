//! When failed operations end a stage: in a row, in percent, or at once.
//!
//! Successes cost one load of a line that nobody writes while all is well. Whoever finds the budget used up trips
//! the stage, once; the director says so and stops everybody. Retrying is deliberately not decided here.

use crate::target::Failure;
use lockstep_core::op::{ErrorClass, Op};
use lockstep_core::plan::ErrorBudget;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Operations of an agent before its percentage of failures means anything.
pub const OPERATIONS_MIN: u64 = 100;

/// Why a stage was tripped.
#[derive(Clone, Debug)]
pub struct Trip {
    /// What was being done.
    pub op: Op,
    /// Name of the object.
    pub name: String,
    /// The failure that was one too many.
    pub failure: Failure,
    /// Which limit it broke, for people.
    pub limit: String,
}

/// Failures of one agent in one stage.
#[derive(Debug)]
pub struct Trouble {
    budget: ErrorBudget,
    /// Classes that end the stage at once.
    fatal: &'static [ErrorClass],
    in_a_row: AtomicU32,
    tripped: AtomicBool,
}

impl Trouble {
    /// A budget; `fatal` classes end the stage at once.
    #[must_use]
    pub fn new(budget: ErrorBudget, fatal: &'static [ErrorClass]) -> Self {
        Self { budget, fatal, in_a_row: AtomicU32::new(0), tripped: AtomicBool::new(false) }
    }

    /// An operation succeeded.
    #[inline]
    pub fn succeeded(&self) {
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// An operation failed. Returns the limit that this broke, if it is the first to break one.
    #[cold]
    pub fn failed(&self, class: ErrorClass) -> Option<String> {
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        let limit = if self.fatal.contains(&class) {
            format!("an error of class '{}' ends the stage at once", class.name())
        } else if self.budget.consecutive > 0 && in_a_row >= self.budget.consecutive {
            // Another worker may have failed once more while this one got here: the budget is what was used up.
            format!("{0} failures in a row (budget: {0})", self.budget.consecutive)
        } else {
            return None;
        };
        self.trip().then_some(limit)
    }

    /// Looks at the totals. Returns the limit that they break, if it is the first one. `ended`: the stage is over, so
    /// that few operations count too.
    pub fn check(&self, operations: u64, errors: u64, ended: bool) -> Option<String> {
        let enough = operations >= OPERATIONS_MIN || (ended && operations > 0);
        let over = u128::from(errors) * 100 > u128::from(self.budget.percent) * u128::from(operations);
        if !(enough && over) {
            return None;
        }
        let percent = self.budget.percent;
        self.trip().then(|| format!("{errors} of {operations} operations failed (budget: {percent} %)"))
    }

    fn trip(&self) -> bool {
        !self.tripped.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(percent: u32, consecutive: u32) -> Trouble {
        Trouble::new(ErrorBudget { percent, consecutive }, &[ErrorClass::Full])
    }

    #[test]
    fn failures_in_a_row_trip_once() {
        let trouble = trouble(100, 3);
        let other = ErrorClass::Other;
        assert_eq!((trouble.failed(other), trouble.failed(other)), (None, None));
        trouble.succeeded();
        assert_eq!((trouble.failed(other), trouble.failed(other)), (None, None));
        assert!(trouble.failed(other).is_some());
        assert_eq!(trouble.failed(other), None);
    }

    #[test]
    fn a_full_disk_trips_at_once() {
        assert!(trouble(100, 0).failed(ErrorClass::Full).is_some());
    }

    #[test]
    fn percent_waits_for_enough_operations_or_the_end() {
        assert_eq!(trouble(1, 0).check(99, 99, false), None);
        assert_eq!(trouble(1, 0).check(1000, 10, false), None);
        assert!(trouble(1, 0).check(1000, 11, false).is_some());
        assert!(trouble(1, 0).check(5, 1, true).is_some());
        assert_eq!(trouble(1, 0).check(0, 0, true), None);
    }
}
