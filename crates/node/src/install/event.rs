//! What the slots hear of, and what they ask for: the words between [`crate::install::step`] and the loop that carries it out.

use package::digest::Digest;
use package::golden::Budget;
use package::trust::shadow::Limits;
use wire::id::BootId;
use wire::world::{MonoNs, WallMs};

use crate::install::cap::Cap;
use crate::install::state::{Measured, Order, Report, Slot};
use crate::install::trial::{Answer, TrialRules};

/// When an event happens, and in which run of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Orders what happens in this run.
    pub mono_ns: MonoNs,
    /// For people.
    pub wall_ms: WallMs,
    /// This run.
    pub boot: BootId,
    /// The run of the machine's kernel, if it is known.
    pub kernel: Option<BootId>,
}

/// What is asked of a candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// What a model may cost on this machine, beside the package's own budget.
    pub budget: Budget,
    /// The share of inputs that a candidate answers beside the current model; 0: none.
    pub shadow: f64,
    /// Which share of those must come out alike.
    pub agreement: f64,
    /// What may be used here by a release that was ordered to answer beside the current one; absent: none may answer.
    pub beside: Option<Cap>,
    /// The trial.
    pub trial: TrialRules,
    /// Whether a smaller variant of the current release stands by for the time when memory is short.
    pub spare: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        let (budget, beside, trial) = (Budget::default(), Some(Cap::default()), TrialRules::default());
        Rules { budget, shadow: 0.0, agreement: 0.95, beside, trial, spare: false }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The node began, with the slots as they stood in the file.
    Started,
    /// The node was asked to stop.
    Stopping,
    /// Somebody who may wants a release.
    Ordered(Order),
    /// The best variant of a release for this machine; or why none fits.
    Chosen {
        /// The release.
        index: Digest,
        /// Which variant.
        result: Result<Slot, String>,
    },
    /// All blobs of a candidate are in the store.
    Arrived(Digest),
    /// They cannot be brought now.
    TransferFailed(Digest, String),
    /// They cannot be brought, since the disk or the quota has no room for them.
    NoRoom(Digest, String),
    /// A candidate's bytes, requirements and grant were checked.
    Verified(Digest, Result<(), Fault>),
    /// A candidate answered its golden set in a process of its own, or did not.
    Proved(Digest, Proof),
    /// A candidate was compared with the current model.
    Shadowed(Digest, Agreement),
    /// So many more answers of a candidate that was ordered to answer beside the current one were compared.
    Compared(Digest, u64),
    /// Such a candidate does not answer now.
    Stood(Digest, Stood),
    /// No order to answer beside the current one stands any more.
    Withdrawn,
    /// A model was loaded to serve, or could not be.
    Loaded(Digest, Result<(), String>),
    /// A model could not be loaded to serve, since the disk has damaged or lost what came; what is damaged was removed.
    Spoilt(Digest, String),
    /// The model that serves gave an answer.
    Answered(Digest, Answer),
    /// A model that serves, or is compared, broke down, and the node did not.
    Crashed(Digest, String),
    /// The journal has a report, durably.
    Journalled(String),
    /// A person wants the previous model back.
    RollBack,
    /// A person lifts a refusal.
    Forgive(Digest),
    /// A person wants the current model loaded again.
    LeaveSafe,
    /// Nothing is on its way on this node, and the machine is short of nothing: somebody may see to spares.
    Quiet,
    /// Something is on its way: what is done for spares rests.
    Busy,
    /// The best smaller variant of the current release for this machine.
    SpareChosen {
        /// The release.
        index: Digest,
        /// Which variant.
        result: Result<Slot, NoSpare>,
    },
    /// Time passed.
    Tick,
}

/// Why a release has no spare here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoSpare {
    /// It has none to give.
    Never(String),
    /// Something is in the way now.
    NotNow(String),
}

/// What is wrong with the bytes of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// They are not those that came: the disk has damaged them. The blob was removed.
    Damaged(String),
    /// They are what was signed, and cannot be used.
    Unfit(String),
    /// What opens them is not here yet: nothing is known of the candidate.
    NotNow(String),
}

/// What proving came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// All answers right, within the budget.
    Passed(Measured),
    /// An answer was wrong, the budget was not kept, or the process died of the model.
    Failed {
        /// Why.
        why: String,
        /// What was measured before.
        measured: Measured,
    },
    /// It could not begin: nothing is known of the model.
    NotNow(String),
}

/// How often a candidate and the current model agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// Of so many inputs.
    pub compared: u32,
    /// So many.
    pub agreed: u32,
}

/// Why a candidate does not answer beside the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stood {
    /// It makes room, and comes again.
    Aside(String),
    /// This machine never can.
    Off(String),
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write the slots; nothing else may be done before that is durable.
    Persist,
    /// Read a release's index, and say which variant fits best.
    Choose(Order),
    /// Bring a candidate's blobs.
    Transfer(Slot),
    /// Check them.
    Verify(Slot),
    /// Let it answer its golden set, in a process of its own.
    Prove(Slot, Budget),
    /// Compare it with the current model, before its trial or within these limits.
    Shadow(Slot, Option<Limits>),
    /// Load it and let it answer, instead of what is loaded.
    Serve(Slot),
    /// Let nothing answer.
    Unload,
    /// Let it answer one case of its golden set: nobody asks.
    Exercise(Slot),
    /// The trust state shall know that this release was committed: nothing older is accepted from now on.
    RaiseFloor(u64),
    /// Bring a report into the journal.
    Journal(Report),
    /// Remove from the store what no slot needs.
    Collect,
    /// Tell a person.
    Tell(String),
    /// Say which smaller variant of this slot's release fits best.
    ChooseSpare(Slot),
    /// Let go of what is being done for the spare.
    Rest,
    /// The spare answers from now on, or does no more; and why: for the journal.
    Over(bool, String),
}
