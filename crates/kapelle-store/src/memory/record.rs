//! Records in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use kapelle_core::Tenant;
use kapelle_core::port::journal::Error;
use kapelle_core::port::record::{RECORDS_MAX, Record, Records};

use super::Memory;

/// By tenant, kind and name.
pub(super) type Kept = BTreeMap<(Tenant, Box<str>, Box<str>), Record>;

#[async_trait]
impl Records for Memory {
    async fn record(&self, tenant: &Tenant, kind: &str, id: &str) -> Result<Option<Record>, Error> {
        Ok(self.state().records.get(&(tenant.clone(), kind.into(), id.into())).cloned())
    }

    async fn records(
        &self,
        tenant: &Tenant,
        kind: &str,
        after: &str,
    ) -> Result<Vec<Record>, Error> {
        let of = |record: &&Record| {
            record.tenant == *tenant && &*record.kind == kind && &*record.id > after
        };
        Ok(self.state().records.values().filter(of).take(RECORDS_MAX).cloned().collect())
    }

    async fn put_record(&self, record: Record) -> Result<bool, Error> {
        let mut state = self.state();
        let key = (record.tenant.clone(), record.kind.clone(), record.id.clone());
        let there = state.records.get(&key).map_or(0, |there| there.version);
        let fits = there == record.version;
        if fits {
            state.records.insert(key, Record { version: there + 1, ..record });
        }
        Ok(fits)
    }

    async fn remove_record(&self, tenant: &Tenant, kind: &str, id: &str) -> Result<bool, Error> {
        let key = (tenant.clone(), kind.into(), id.into());
        Ok(self.state().records.remove(&key).is_some())
    }
}
