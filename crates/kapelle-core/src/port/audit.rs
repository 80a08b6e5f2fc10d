//! The audit log: who did what and who was refused, each entry chained to the one before.
//!
//! **Invariants:** nothing that was noted is changed or removed; one that is was noted by nobody. The chain
//! is one for all tenants of a store, so that none of them can go without a gap; none sees another's entries.

use async_trait::async_trait;

use super::journal::Error;
use crate::{Digest, Digester, Tenant};

/// How many entries are told at once.
pub const NOTES_MAX: u32 = 1_000;

/// Something that was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Which one of the store it is, from 1 on.
    pub seq: u64,
    /// Who may see it.
    pub tenant: Tenant,
    /// What it says, byte for byte as it was given.
    pub body: Box<str>,
    /// Of this entry and the hash of the one before.
    pub hash: [u8; 32],
}

impl Noted {
    /// The entry that follows the one with that number and hash (0 and zeros: none).
    #[must_use]
    pub fn after((seq, hash): (u64, &[u8; 32]), tenant: Tenant, body: Box<str>) -> Self {
        let seq = seq + 1;
        let mut digester = Digester::default();
        digester.update(hash);
        digester.update(&seq.to_le_bytes());
        digester.update(&(tenant.as_str().len() as u64).to_le_bytes());
        digester.update(tenant.as_str().as_bytes());
        digester.update(body.as_bytes());
        let hash = *Digest::as_bytes(&digester.finish());
        Self { seq, tenant, body, hash }
    }

    /// Whether it is what was noted after the entry with that number and hash.
    #[must_use]
    pub fn follows(&self, last: (u64, &[u8; 32])) -> bool {
        Self::after(last, self.tenant.clone(), self.body.clone()) == *self
    }
}

/// The audit log of a store.
#[async_trait]
pub trait Audit: Send + Sync {
    /// Notes `body` behind all there is, durably.
    async fn note(&self, tenant: &Tenant, body: Box<str>) -> Result<(), Error>;

    /// The entries of a tenant before `before`, newest first, at most `limit` and [`NOTES_MAX`].
    async fn notes(
        &self,
        tenant: &Tenant,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Noted>, Error>;
}
