//! The kinds of statements, each of which every run must have tried.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::installation::Series;

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Kind {
    CreateInnodb,
    CreateOther,
    CreateOrReplace,
    CreateLike,
    CreateSelect,
    Drop,
    DropMany,
    Rename,
    RenameChain,
    RenameCircle,
    RenameAcross,
    RenameAndCreate,
    TruncateInnodb,
    TruncateOther,
    AlterCopy,
    AlterInplace,
    AlterInstantAdd,
    AlterInstantDrop,
    AlterRowFormat,
    Force,
    Optimize,
    AddIndex,
    DropIndex,
    AddFulltext,
    DropFulltext,
    ConvertFromInnodb,
    ConvertToInnodb,
    ConvertOther,
    BulkInsertInnodb,
    BulkInsertOther,
    ElsewhereCreate,
    ElsewhereRename,
    ElsewhereTruncate,
    ElsewhereRebuild,
    ElsewhereDrop,
    DiscardImport,
    PartitionReorganise,
    PartitionDrop,
    PartitionTruncate,
    PartitionRebuild,
    PartitionExchange,
    PartitionAdd,
    PartitionConvertOut,
    PartitionConvertIn,
    PartitionAddHash,
    PartitionCoalesce,
    PartitionRemove,
    PartitionBy,
    CsvCreate,
    CsvChange,
    CsvDrop,
    ArchiveCreate,
    ArchiveChange,
    ArchiveDrop,
    MergeCreate,
    MergeChange,
    MergeDrop,
    ViewCreate,
    ViewRename,
    ViewDrop,
    TriggerCreate,
    TriggerRename,
    TriggerDrop,
    RoutineCreate,
    RoutineDrop,
    SequenceCreate,
    SequenceChange,
    SequenceDrop,
    VersionedCreate,
    VersionedChange,
    VersionedDrop,
    DatabaseCreate,
    DatabaseChange,
    DatabaseDrop,
    Shared,
    /// Statements that change rows alone.
    Dml,
}

impl Kind {
    /// All kinds of DDL.
    pub const DDL: [Self; Self::Dml as usize] = [
        Self::CreateInnodb,
        Self::CreateOther,
        Self::CreateOrReplace,
        Self::CreateLike,
        Self::CreateSelect,
        Self::Drop,
        Self::DropMany,
        Self::Rename,
        Self::RenameChain,
        Self::RenameCircle,
        Self::RenameAcross,
        Self::RenameAndCreate,
        Self::TruncateInnodb,
        Self::TruncateOther,
        Self::AlterCopy,
        Self::AlterInplace,
        Self::AlterInstantAdd,
        Self::AlterInstantDrop,
        Self::AlterRowFormat,
        Self::Force,
        Self::Optimize,
        Self::AddIndex,
        Self::DropIndex,
        Self::AddFulltext,
        Self::DropFulltext,
        Self::ConvertFromInnodb,
        Self::ConvertToInnodb,
        Self::ConvertOther,
        Self::BulkInsertInnodb,
        Self::BulkInsertOther,
        Self::ElsewhereCreate,
        Self::ElsewhereRename,
        Self::ElsewhereTruncate,
        Self::ElsewhereRebuild,
        Self::ElsewhereDrop,
        Self::DiscardImport,
        Self::PartitionReorganise,
        Self::PartitionDrop,
        Self::PartitionTruncate,
        Self::PartitionRebuild,
        Self::PartitionExchange,
        Self::PartitionAdd,
        Self::PartitionConvertOut,
        Self::PartitionConvertIn,
        Self::PartitionAddHash,
        Self::PartitionCoalesce,
        Self::PartitionRemove,
        Self::PartitionBy,
        Self::CsvCreate,
        Self::CsvChange,
        Self::CsvDrop,
        Self::ArchiveCreate,
        Self::ArchiveChange,
        Self::ArchiveDrop,
        Self::MergeCreate,
        Self::MergeChange,
        Self::MergeDrop,
        Self::ViewCreate,
        Self::ViewRename,
        Self::ViewDrop,
        Self::TriggerCreate,
        Self::TriggerRename,
        Self::TriggerDrop,
        Self::RoutineCreate,
        Self::RoutineDrop,
        Self::SequenceCreate,
        Self::SequenceChange,
        Self::SequenceDrop,
        Self::VersionedCreate,
        Self::VersionedChange,
        Self::VersionedDrop,
        Self::DatabaseCreate,
        Self::DatabaseChange,
        Self::DatabaseDrop,
        Self::Shared,
    ];
}

impl Kind {
    /// The kinds of DDL for a server of `series`.
    pub fn ddl_of(series: Series) -> Vec<Self> {
        let is_known = |kind: &Self| match kind {
            // Its grammar lacks these.
            Self::PartitionConvertOut | Self::PartitionConvertIn => series != Series::V10_5,
            // It crashes where the client replays rows of a sequence from the binary log.
            Self::SequenceCreate | Self::SequenceChange | Self::SequenceDrop => {
                series != Series::V10_5
            }
            _ => true,
        };
        Self::DDL.into_iter().filter(is_known).collect()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How often steps of each kind have succeeded.
#[derive(Debug)]
pub struct Tally {
    counts: Vec<AtomicU64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { counts: (0..=Kind::Dml as usize).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Tally {
    /// Counts a step.
    pub fn add(&self, kind: Kind) {
        if let Some(count) = self.counts.get(kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The numbers so far.
    pub fn now(&self) -> Counts {
        Counts(self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect())
    }
}

/// Numbers of steps, by kind.
#[derive(Debug, Clone, Default)]
pub struct Counts(Vec<u64>);

impl Counts {
    /// Number of steps of `kind`.
    pub fn of(&self, kind: Kind) -> u64 {
        self.0.get(kind as usize).copied().unwrap_or_default()
    }

    /// Number of DDL steps.
    pub fn ddl(&self) -> u64 {
        Kind::DDL.iter().map(|kind| self.of(*kind)).sum()
    }

    /// Those of `kinds` of which there were fewer than `count`.
    pub fn fewer_than(&self, count: u64, kinds: &[Kind]) -> Vec<Kind> {
        kinds.iter().copied().filter(|kind| self.of(*kind) < count).collect()
    }

    /// What was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self(self.0.iter().zip(&before.0).map(|(now, then)| now - then).collect())
    }
}
