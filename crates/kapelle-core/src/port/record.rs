//! Records: what a node keeps beside its runs, small and seldom changed: keys, registrations.
//!
//! **Invariants:** a record is of one tenant, and none sees another's; one that was put is on disk. Of two
//! that change the same record at once one is told that it came late.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::journal::Error;
use crate::{Json, Tenant};

/// How many records are told at once.
pub const RECORDS_MAX: usize = 1_000;

/// What is kept under a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Whose it is.
    pub tenant: Tenant,
    /// What sort of thing.
    pub kind: Box<str>,
    /// Its name among those of its kind.
    pub id: Box<str>,
    /// How often it was changed, from 1 on. One to be put: of the record whose place it takes, 0 for none.
    pub version: u64,
    /// What it says.
    pub body: Json,
}

/// The records of a store.
#[async_trait]
pub trait Records: Send + Sync {
    /// One of them.
    async fn record(&self, tenant: &Tenant, kind: &str, id: &str) -> Result<Option<Record>, Error>;

    /// Those of a kind whose names come after `after`, by name, at most [`RECORDS_MAX`].
    async fn records(&self, tenant: &Tenant, kind: &str, after: &str)
    -> Result<Vec<Record>, Error>;

    /// Puts one, durably, if what is there has its version; whether.
    async fn put_record(&self, record: Record) -> Result<bool, Error>;

    /// Removes one, durably, if there is one; whether.
    async fn remove_record(&self, tenant: &Tenant, kind: &str, id: &str) -> Result<bool, Error>;
}
