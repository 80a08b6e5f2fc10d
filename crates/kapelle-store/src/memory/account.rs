//! Accounts in memory.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use kapelle_core::Tenant;
use kapelle_core::port::account::{Accounts, Call, Day, Grant, Granted, Open, Standing, Within};
use kapelle_core::port::journal::Error;
use kapelle_core::run::Sum;

use super::Memory;

/// What was spent, and what is granted.
#[derive(Default)]
pub(super) struct Ledgers {
    spent: BTreeMap<(Tenant, Box<str>, Day), Sum>,
    granted: BTreeMap<(Tenant, Call, Box<str>), (Day, Sum)>,
}

/// How many open grants are told at once.
const OPEN_MAX: usize = 1_000;

impl Ledgers {
    fn grant(&mut self, grant: &Grant, within: &[Within]) -> Granted {
        let Grant { tenant, call, day, wanted } = grant;
        let key = |of: &Within| (tenant.clone(), *call, of.account.clone());
        let lacking: Vec<_> =
            within.iter().filter(|of| !self.granted.contains_key(&key(of))).collect();
        for of in &lacking {
            let standing = self.standing(tenant, &of.account, of.since);
            if !of.fits(&standing.gone().and(*wanted)) {
                return Granted::No(standing);
            }
        }
        self.granted.extend(lacking.into_iter().map(|of| (key(of), (*day, *wanted))));
        Granted::Yes
    }

    fn settle(&mut self, tenant: &Tenant, call: Call, used: Sum) {
        let settled =
            self.granted.extract_if(.., |(of, known, _), _| of == tenant && *known == call);
        let settled: Vec<_> = settled.collect();
        for ((_, _, account), (day, _)) in settled {
            if used != Sum::default() {
                let spent = self.spent.entry((tenant.clone(), account, day)).or_default();
                *spent = spent.and(used);
            }
        }
    }

    fn standing(&self, tenant: &Tenant, account: &str, since: Day) -> Standing {
        let spent = self
            .spent
            .iter()
            .filter(|((of, name, day), _)| of == tenant && &**name == account && *day >= since);
        let granted = self.granted.iter().filter(|((of, _, name), (day, _))| {
            of == tenant && &**name == account && *day >= since
        });
        Standing {
            account: account.into(),
            spent: spent.fold(Sum::default(), |all, (_, more)| all.and(*more)),
            reserved: granted.fold(Sum::default(), |all, (_, (_, more))| all.and(*more)),
        }
    }

    fn accounts(&self, tenant: &Tenant, since: Day) -> Vec<Standing> {
        let spent = self.spent.keys().map(|(of, name, day)| (of, name, *day));
        let granted = self.granted.iter().map(|((of, _, name), (day, _))| (of, name, *day));
        let all = spent.chain(granted).filter(|(of, _, day)| *of == tenant && *day >= since);
        let names: BTreeSet<_> = all.map(|(_, name, _)| name).collect();
        names.into_iter().map(|name| self.standing(tenant, name, since)).collect()
    }

    fn open(&self, tenant: &Tenant) -> Vec<Open> {
        let mine = self.granted.iter().filter(|((of, _, _), _)| of == tenant);
        let mine = mine.map(|((_, call, _), (_, granted))| Open { call: *call, granted: *granted });
        let mut open: Vec<_> = mine.take(OPEN_MAX).collect();
        open.dedup_by_key(|open| open.call);
        open
    }
}

#[async_trait]
impl Accounts for Memory {
    async fn grant(&self, grant: Grant, within: Vec<Within>) -> Result<Granted, Error> {
        Ok(self.state().ledgers.grant(&grant, &within))
    }

    async fn settle(&self, tenant: &Tenant, call: Call, used: Sum) -> Result<(), Error> {
        self.state().ledgers.settle(tenant, call, used);
        Ok(())
    }

    async fn accounts(&self, tenant: &Tenant, since: Day) -> Result<Vec<Standing>, Error> {
        Ok(self.state().ledgers.accounts(tenant, since))
    }

    async fn open_grants(&self, tenant: &Tenant) -> Result<Vec<Open>, Error> {
        Ok(self.state().ledgers.open(tenant))
    }
}
