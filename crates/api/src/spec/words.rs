//! The closed words of the spec. Each is an enum of [`lockstep_core::plan`] with a schema: `core` is a leaf and knows
//! no schemas, and a plan may change its enums without changing the resource.

use lockstep_core::{dataset, op, plan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares an enum with the words of one of `core`'s and the conversion into it. Neither may lack a word of the other: both
/// ways are exhaustive, so that it does not compile.
macro_rules! words {
    ($($(#[$meta:meta])* $name:ident = $core:ty { $($(#[$variant_meta:meta])* $variant:ident),+ $(,)? })+) => {$(
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[schemars(inline)]
        $(#[$meta])*
        pub enum $name { $($(#[$variant_meta])* $variant),+ }

        impl From<$name> for $core {
            fn from(word: $name) -> Self {
                match word { $($name::$variant => Self::$variant),+ }
            }
        }

        const _: fn($core) = |word| match word { $(<$core>::$variant => ()),+ };
    )+};
}

words! {
    /// Which of several endpoints an operation uses.
    EndpointSelection = plan::EndpointSelection {
        /// In turn; does not hide a slow node.
        RoundRobin,
        /// The one with the fewest operations under way.
        LeastBusy,
        /// Agent i uses endpoint i mod n.
        PerAgent,
    }
    /// What a file target does with the page cache.
    PageCache = plan::PageCache {
        /// Leaves it alone.
        Keep,
        /// Asks the kernel to drop a file's pages after use.
        Drop,
    }
    /// Who owns which part of the data set.
    Sharing = plan::Sharing {
        /// One data set, of which each agent owns a part.
        Shared,
        /// One data set per agent, each under a prefix of its own.
        PerAgent,
    }
    /// What prepare does about objects that are already there.
    Existing = plan::Existing {
        /// Trusts that everything is there.
        Reuse,
        /// Creates what is missing or of another size.
        FillGaps,
        /// Creates everything anew.
        Overwrite,
    }
    /// What blocks of content are filled with.
    Fill = dataset::content::Fill {
        /// Pseudo-random bytes.
        Random,
        /// Zeroes.
        Zero,
    }
    /// Which directories of a tree hold files.
    FilesIn = dataset::FilesIn {
        /// Those of the deepest level.
        Leaves,
        /// Those of all levels.
        AllLevels,
    }
    /// One kind of storage operation.
    OpName = op::Op {
        /// Reads a whole object or file.
        Get,
        /// Writes a whole new object or file.
        Put,
        /// Looks an object up, or stats a file.
        Head,
        /// Lists one page of one prefix or directory.
        List,
        /// Removes an object or file that this stage put.
        Delete,
    }
    /// How arrivals of an open loop are spaced.
    Arrival = plan::Arrival {
        /// Exponential gaps.
        Poisson,
        /// Gaps uniform between zero and twice the mean.
        Uniform,
        /// Equal gaps.
        Deterministic,
    }
    /// What an error means in cleanup.
    Tolerance = plan::Tolerance {
        /// Any error fails the stage.
        Strict,
        /// Missing objects are fine.
        Tolerant,
        /// Errors are counted and none fails the stage.
        BestEffort,
    }
    /// Whether a stage runs after a failure or an abort.
    RunOn = plan::RunOn {
        /// Only when all went well so far.
        Success,
        /// Also after a failure or an abort.
        Always,
    }
    /// Who must arrive before a barrier opens.
    BarrierMode = plan::BarrierMode {
        /// Every agent of the quorum.
        All,
        /// More than half, and the timeout is over.
        Majority,
        /// Everyone alive, or the timeout is over.
        BestEffort,
    }
    /// What a doubt about a measurement means for the verdict.
    Objection = plan::Objection {
        /// The verdict is Inconclusive.
        Inconclusive,
        /// It is only reported.
        Report,
    }
    /// Whether an agent that comes late may join.
    LateJoin = plan::LateJoin {
        /// It may not.
        Refuse,
        /// It joins what is under way.
        Admit,
    }
    /// What a failure rule does.
    RuleAction = plan::RuleAction {
        /// Replaces the agent.
        Retry,
        /// Aborts the run.
        Abort,
        /// Goes on without the agent.
        Continue,
    }
    /// What a breach of a threshold means.
    OnBreach = plan::OnBreach {
        /// The verdict is Failed.
        Fail,
        /// It is only reported.
        Report,
    }
    /// What a threshold measures.
    #[serde(rename_all = "camelCase")]
    MetricName = plan::Metric {
        /// Mean response time.
        Mean,
        /// Median response time.
        P50,
        /// 90th percentile of response time.
        P90,
        /// 99th percentile of response time.
        P99,
        /// 99.9th percentile of response time.
        P999,
        /// Longest response time.
        Max,
        /// Operations per second of all agents together.
        OperationsPerSecond,
        /// Bytes per second of all agents together.
        BytesPerSecond,
        /// Percent of operations that failed.
        ErrorPercent,
    }
}

/// How agents are spread over nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Placement {
    /// As even as possible.
    #[default]
    Spread,
    /// At most one per node.
    OnePerNode,
    /// Wherever the scheduler likes.
    Any,
}

/// When the pods of finished agents are deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum CleanupPolicy {
    /// As soon as the run has finished.
    #[default]
    Always,
    /// Only when the run succeeded.
    OnSuccess,
    /// With the run.
    Never,
}

/// What happens when an index has no attempts left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum FailureModeName {
    /// Aborts everything.
    FailFast,
    /// Goes on while more than half of the replicas live.
    #[default]
    ContinueIfMajority,
    /// Goes on while one lives.
    BestEffort,
    /// Short for one replacement per agent, then FailFast.
    RetryOnce,
}

/// How a run is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum StopMode {
    /// Stops the load, keeps partial results, cleans up where asked.
    Graceful,
    /// Stops the load and skips cleanup.
    Immediate,
}
