//! The audit log in memory.

use async_trait::async_trait;
use kapelle_core::Tenant;
use kapelle_core::port::audit::{Audit, NOTES_MAX, Noted};
use kapelle_core::port::journal::Error;

use super::{Memory, State};

impl State {
    pub(super) fn note(&mut self, tenant: &Tenant, body: Box<str>) {
        let last = self.audit.last().map_or((0, [0; 32]), |last| (last.seq, last.hash));
        self.audit.push(Noted::after((last.0, &last.1), tenant.clone(), body));
    }
}

#[async_trait]
impl Audit for Memory {
    async fn note(&self, tenant: &Tenant, body: Box<str>) -> Result<(), Error> {
        self.state().note(tenant, body);
        Ok(())
    }

    async fn notes(
        &self,
        tenant: &Tenant,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Noted>, Error> {
        let state = self.state();
        let of = |noted: &&Noted| {
            noted.tenant == *tenant && before.is_none_or(|before| noted.seq < before)
        };
        let newest = state.audit.iter().rev().filter(of);
        Ok(newest.take(limit.min(NOTES_MAX) as usize).cloned().collect())
    }
}
