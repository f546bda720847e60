//! Who leads, decided from what was seen of the Lease and when. Pure: time is an argument, and nothing is read or written.
//!
//! ```text
//!        free, or unchanged for its duration              renewed every 3 s
//! standby ───────────── Acquire ───────────────→ leader ────┐
//!    ↑                                             │  ↑     │ Renew
//!    └── StandDown: another holds it, or nobody ───┘  └─────┘
//!        does and our time is over
//! ```
//!
//! Why two never write at once, whatever is stopped for however long between any two steps: a leader may write until
//! `duration − margin` after the moment in which it *sent* its last renewal that was taken. Whoever takes over has seen the
//! same record for a whole `duration`, counted from when he *received* it, which is after it was sent. Each counts by his
//! own clock, so only their rates matter, and `margin` allows for a tenth. Every write carries the resourceVersion of the
//! record that was judged, so that a renewal in between makes it fail.
//!
//! A Lease that somebody deleted says nothing of who leads. Whoever misses it makes it anew ([`Step::Create`]), held by
//! nobody and not free: its leader, if its time lasts, writes itself back there, and anybody else waits as for a silent one.
//! To make it never confers anything, because making compares no version: the Lease might have come and gone again since.
//!
//! Deliberately without wall clocks: `renewTime` is looked at only for being another one. One thing is left to trust: an
//! empty Lease that was never renewed is taken at once, so a chart that makes it anew within the time of a leader whose
//! Lease was just deleted may give it away, to a replica that has just started. Epochs still keep the two apart.

use super::clock::Moment;
use std::time::Duration;

/// How long a leader may be silent before another takes over. The run waits for that long when a leader dies, and an API
/// server that restarts in less costs no leadership.
pub const DURATION: Duration = Duration::from_secs(10);
/// What a leader's time to write is shorter: covers clocks whose rates differ by a tenth.
pub const MARGIN: Duration = Duration::from_secs(1);
/// How often a leader renews: two of them may fail before its time is over.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);
/// How often a standby looks, and how soon anything that failed is tried again: a Lease that was released is taken within
/// the two seconds that a hand-over may take.
pub const RETRY_EVERY: Duration = Duration::from_secs(1);

/// The terms of a Lease; all contenders have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a leader may be silent before another takes over.
    pub duration: Duration,
    /// What its time to write is shorter.
    pub margin: Duration,
    /// How often it renews.
    pub renew_every: Duration,
    /// How often a standby looks, and how soon anything that failed is tried again.
    pub retry_every: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self { duration: DURATION, margin: MARGIN, renew_every: RENEW_EVERY, retry_every: RETRY_EVERY }
    }
}

/// What a Lease said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds it.
    pub holder: Option<String>,
    /// How often it went to somebody else.
    pub transitions: i64,
    /// Its resourceVersion.
    pub version: String,
    /// When it was renewed, by whichever clock: only ever compared for being the same.
    pub renewed: Option<String>,
    /// Whether it may be taken at once: its holder let it go, or it never had one.
    pub free: bool,
}

impl Record {
    /// Whether the holder has not been heard of between the two. A write that changes nothing of this, e.g. of a label, is
    /// no sign of life.
    fn says_as(&self, other: &Self) -> bool {
        let said = |of: &Self| (of.holder.clone(), of.transitions, of.renewed.clone());
        said(self) == said(other)
    }
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the Lease.
    Look,
    /// Make it, held by nobody and not free.
    Create {
        /// What it shall say.
        transitions: i64,
    },
    /// Become its holder, given that this version still stands.
    Acquire {
        /// The resourceVersion that was judged.
        version: String,
        /// What it shall say.
        transitions: i64,
    },
    /// Say that we are still there, given that this version still stands.
    Renew {
        /// The resourceVersion that was judged.
        version: String,
        /// What it shall say.
        transitions: i64,
    },
    /// Nothing, until then.
    Wait(Moment),
    /// Lead no more.
    StandDown,
}

/// What this process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It looks on.
    Standby {
        /// Who leads, as far as is known.
        holder: Option<String>,
    },
    /// It leads.
    Leader {
        /// `leaseTransitions` of its Lease; another number is another leadership.
        transitions: i64,
    },
}

#[derive(Clone, Debug)]
struct Seen {
    /// `None`: there was no Lease.
    record: Option<Record>,
    /// Received then.
    at: Moment,
    /// It has said the same since then.
    since: Moment,
    /// It may be taken at once.
    free: bool,
    /// Somebody has written since: what is known is of the past.
    outdated: bool,
}

#[derive(Clone, Copy, Debug)]
struct Lead {
    transitions: i64,
    /// May write until then.
    until: Moment,
    renew_at: Moment,
}

/// One contender.
#[derive(Clone, Debug)]
pub struct Elector {
    me: String,
    terms: Terms,
    seen: Option<Seen>,
    lead: Option<Lead>,
    /// The greatest that was ever seen.
    transitions: i64,
    /// After a failure: nothing before that.
    not_before: Moment,
}

impl Elector {
    /// A contender who has seen nothing. `me` is unique to this process.
    #[must_use]
    pub fn new(me: &str, terms: Terms) -> Self {
        let not_before = Moment::default();
        Self { me: me.to_owned(), terms, seen: None, lead: None, transitions: 0, not_before }
    }

    /// What to do now.
    #[must_use]
    pub fn decide(&self, now: Moment) -> Step {
        if now < self.not_before {
            return Step::Wait(self.not_before);
        }
        let Some(seen) = self.seen.as_ref().filter(|seen| !seen.outdated) else { return Step::Look };
        match &self.lead {
            Some(lead) => self.as_leader(lead, seen.record.as_ref(), now),
            None => self.as_standby(seen, now),
        }
    }

    fn as_leader(&self, lead: &Lead, record: Option<&Record>, now: Moment) -> Step {
        let transitions = lead.transitions;
        match record {
            Some(Record { holder: Some(holder), version, .. }) if *holder == self.me => {
                // Also when our time is over: nobody has written since.
                match now < lead.renew_at {
                    true => Step::Wait(lead.renew_at),
                    false => Step::Renew { version: version.clone(), transitions },
                }
            }
            Some(Record { holder: Some(_), .. }) => Step::StandDown,
            // Somebody deleted or emptied it. Only while our time lasts we know that nobody else has led since.
            _ if now >= lead.until => Step::StandDown,
            Some(Record { version, .. }) => Step::Renew { version: version.clone(), transitions },
            None => Step::Create { transitions },
        }
    }

    fn as_standby(&self, seen: &Seen, now: Moment) -> Step {
        if let Some(Record { holder: Some(holder), version, transitions, .. }) = &seen.record
            && *holder == self.me
        {
            // A write of ours was taken, and its answer lost. Nobody has written since.
            return Step::Renew { version: version.clone(), transitions: *transitions };
        }
        let Some(Record { version, .. }) = &seen.record else {
            return Step::Create { transitions: self.transitions };
        };
        let takeable = if seen.free { seen.since } else { seen.since.plus(self.terms.duration) };
        let look_at = seen.at.plus(self.terms.retry_every);
        match now < takeable {
            true if now < look_at => Step::Wait(takeable.min(look_at)),
            true => Step::Look,
            false => Step::Acquire { version: version.clone(), transitions: self.transitions + 1 },
        }
    }

    /// The Lease was read or made; `None`: there is none. `now`: when the answer was here.
    pub fn observed(&mut self, record: Option<Record>, now: Moment) {
        let says_the_same = |seen: &Seen| match (&seen.record, &record) {
            (Some(seen), Some(record)) => record.says_as(seen),
            (None, None) => true,
            _ => false,
        };
        let before = self.seen.take();
        let same = before.filter(says_the_same);
        // One with fewer transitions than were seen was not let go by its leader, but made anew by somebody else.
        let free =
            record.as_ref().is_some_and(|record| record.free && record.transitions >= self.transitions);
        let (since, free) = same.map_or((now, free), |seen| (seen.since, seen.free));
        self.transitions = self.transitions.max(record.as_ref().map_or(0, |record| record.transitions));
        self.seen = Some(Seen { record, at: now, since, free, outdated: false });
    }

    /// A [`Step::Acquire`] or [`Step::Renew`] that was sent at `sent` was taken; the Lease is `record` now.
    pub fn wrote(&mut self, record: Record, sent: Moment, now: Moment) {
        let until = sent.plus(self.terms.duration.saturating_sub(self.terms.margin));
        self.lead = Some(Lead {
            transitions: record.transitions,
            until,
            renew_at: sent.plus(self.terms.renew_every),
        });
        self.observed(Some(record), now);
    }

    /// A write was refused, since somebody else has written: what was seen is of the past.
    pub fn outrun(&mut self) {
        if let Some(seen) = &mut self.seen {
            seen.outdated = true;
        }
    }

    /// Something failed, and nobody knows whether it was done.
    pub fn failed(&mut self, now: Moment) {
        self.not_before = now.plus(self.terms.retry_every);
        // A leader writes again: that is what it has time for, and a version that no longer stands is refused.
        if self.lead.is_none() {
            self.outrun();
        }
    }

    /// [`Step::StandDown`] was done.
    pub fn stood_down(&mut self) {
        self.lead = None;
    }

    /// What this process is.
    #[must_use]
    pub fn role(&self) -> Role {
        match &self.lead {
            Some(lead) => Role::Leader { transitions: lead.transitions },
            None => Role::Standby {
                holder: self.seen.as_ref().and_then(|seen| seen.record.as_ref()?.holder.clone()),
            },
        }
    }

    /// Until when it may write; long ago for who does not lead.
    #[must_use]
    pub fn until(&self) -> Moment {
        self.lead.map_or(Moment::default(), |lead| lead.until)
    }
}

/// The epoch of a leader: greater than that of every leader before, also when the Lease was deleted meanwhile.
/// `in_statuses`: those that stand in runs.
#[must_use]
pub fn epoch(transitions: i64, in_statuses: impl IntoIterator<Item = i64>) -> i64 {
    in_statuses.into_iter().fold(transitions, i64::max).saturating_add(1)
}
