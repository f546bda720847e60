//! The closed vocabularies that plans, recorders, wire messages and reports share: operations, error classes and
//! size classes. Deliberately without behaviour beyond naming and ordering.

use serde::{Deserialize, Serialize};

/// One kind of storage operation. File targets read `Get` as open/read/close, `Put` as open/write/close,
/// `Head` as stat, `List` as readdir and `Delete` as unlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Op {
    /// Read a whole object.
    Get,
    /// Write a whole object.
    Put,
    /// Look an object up without its content.
    Head,
    /// List one page of one directory or prefix.
    List,
    /// Remove an object.
    Delete,
}

impl Op {
    /// Every operation, in the order in which tables show them.
    pub const ALL: [Self; 5] = [Self::Get, Self::Put, Self::Head, Self::List, Self::Delete];

    /// The name as it stands in manifests and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "Get",
            Self::Put => "Put",
            Self::Head => "Head",
            Self::List => "List",
            Self::Delete => "Delete",
        }
    }

    /// Position in [`Op::ALL`]; the number that the wire carries.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Why an operation failed, as coarse as a budget or an action needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ErrorClass {
    /// The object, bucket or directory is not there.
    NotFound,
    /// The caller may not do this.
    Permission,
    /// The target asked to slow down (HTTP 429, 503 `SlowDown`).
    Throttled,
    /// No answer within the operation's limit.
    Timeout,
    /// No connection could be made.
    Connect,
    /// An established connection broke.
    Reset,
    /// No space, no inodes or no quota left.
    Full,
    /// Content differs from what was written.
    Corrupt,
    /// The answer was not of the protocol.
    Protocol,
    /// Anything else.
    Other,
}

impl ErrorClass {
    /// Every class, in the order of its number on the wire.
    pub const ALL: [Self; 10] = [
        Self::NotFound,
        Self::Permission,
        Self::Throttled,
        Self::Timeout,
        Self::Connect,
        Self::Reset,
        Self::Full,
        Self::Corrupt,
        Self::Protocol,
        Self::Other,
    ];

    /// The name as reports show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not found",
            Self::Permission => "permission",
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Full => "full",
            Self::Corrupt => "corrupt",
            Self::Protocol => "protocol",
            Self::Other => "other",
        }
    }

    /// Position in [`ErrorClass::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Size classes of objects, as users of older tools already read them: results are kept per operation and class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SizeClass(u8);

impl SizeClass {
    /// How many classes there are.
    pub const COUNT: usize = 9;
    /// Inclusive upper bound of each class in bytes; the last has none.
    pub const UPPER_BYTES: [u64; Self::COUNT] =
        [0, 8 << 10, 64 << 10, 512 << 10, 4 << 20, 32 << 20, 256 << 20, 2 << 30, u64::MAX];
    /// The names as tables show them.
    pub const NAMES: [&'static str; Self::COUNT] = [
        "zero",
        "1B-8KiB",
        "8KiB-64KiB",
        "64KiB-512KiB",
        "512KiB-4MiB",
        "4MiB-32MiB",
        "32MiB-256MiB",
        "256MiB-2GiB",
        ">2GiB",
    ];

    /// The class of an object of `bytes`.
    #[must_use]
    pub fn of(bytes: u64) -> Self {
        let mut class = 0;
        while bytes > Self::UPPER_BYTES[class as usize] {
            class += 1;
        }
        Self(class)
    }

    /// The class with this number, if there is one.
    #[must_use]
    pub fn from_index(index: usize) -> Option<Self> {
        (index < Self::COUNT).then_some(Self(index as u8))
    }

    /// Number of the class, 0 (zero bytes) to 8.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The name as tables show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::NAMES[self.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_split_where_they_say() {
        for (bytes, want) in [(0, 0), (1, 1), (8192, 1), (8193, 2), (1 << 20, 4), (u64::MAX, 8)] {
            assert_eq!(SizeClass::of(bytes).index(), want, "{bytes}");
        }
    }
}
