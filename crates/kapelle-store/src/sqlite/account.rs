//! Accounts: a row for what was spent on a day, a row for each grant that is not settled.
//!
//! **Invariant:** a grant is looked for, weighed and written in one transaction of the store's one
//! writer at a time; so nobody else's can come between.

use async_trait::async_trait;
use kapelle_core::port::account::{Accounts, Call, Day, Grant, Granted, Open, Standing, Within};
use kapelle_core::port::journal::Error;
use kapelle_core::run::Sum;
use kapelle_core::{Attempt, RunId, StepNo, Tenant};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tokio::sync::oneshot;

use super::write::{Transaction, int};
use super::writer::Wish;
use super::{Sqlite, sum};

/// How many open grants are told at once.
const OPEN_MAX: u32 = 1_000;

#[async_trait]
impl Accounts for Sqlite {
    async fn grant(&self, grant: Grant, within: Vec<Within>) -> Result<Granted, Error> {
        let (answer, answered) = oneshot::channel();
        self.wish(Wish::Grant { grant, within, granted: Granted::Yes, answer });
        self.answer(answered).await
    }

    async fn settle(&self, tenant: &Tenant, call: Call, used: Sum) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        self.wish(Wish::Settle { tenant: tenant.clone(), call, used, answer });
        self.answer(answered).await
    }

    async fn accounts(&self, tenant: &Tenant, since: Day) -> Result<Vec<Standing>, Error> {
        let tenant = tenant.clone();
        self.readers.read(move |conn| accounts(conn, &tenant, since)).await
    }

    async fn open_grants(&self, tenant: &Tenant) -> Result<Vec<Open>, Error> {
        let tenant = tenant.clone();
        self.readers.read(move |conn| open_grants(conn, &tenant)).await
    }
}

impl Transaction<'_> {
    /// Grants what a call may use, by all of `within` or by none.
    pub(super) fn grant(&self, grant: &Grant, within: &[Within]) -> rusqlite::Result<Granted> {
        let mut lacking = Vec::new();
        for of in within {
            if self.granted(&grant.tenant, &of.account, &grant.call)?.is_some() {
                continue;
            }
            let standing = standing(self.conn, &grant.tenant, of)?;
            if !of.fits(&standing.gone().and(grant.wanted)) {
                return Ok(Granted::No(standing));
            }
            lacking.push(&of.account);
        }
        for account in lacking {
            self.hold(grant, account)?;
        }
        Ok(Granted::Yes)
    }

    /// What an account has granted a call, and on which day.
    fn granted(
        &self,
        tenant: &Tenant,
        account: &str,
        call: &Call,
    ) -> rusqlite::Result<Option<Day>> {
        let ok = sum::GRANT;
        let sql = format!(
            "SELECT day, {ok} FROM account_grant WHERE tenant = ?1 AND run = ?2 AND step = ?3
             AND attempt = ?4 AND ordinal = ?5 AND account = ?6"
        );
        let Call { run, step, attempt, ordinal } = call;
        let values = params![tenant.as_str(), run.as_bytes(), step.0, attempt.0, *ordinal, account];
        let day = self.conn.prepare_cached(&sql)?.query_row(values, |row| {
            sum::check(row, 1, "a grant's row")?;
            Ok(Day(row.get(0)?))
        });
        day.optional()
    }

    fn hold(&self, grant: &Grant, account: &str) -> rusqlite::Result<()> {
        let sql =
            "INSERT INTO account_grant (tenant, account, run, step, attempt, ordinal, day, tokens,
                       nanos, unpriced, ms, sum)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,
                       row_sum(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11))";
        let Grant { tenant, call: Call { run, step, attempt, ordinal }, day, wanted } = grant;
        self.conn.prepare_cached(sql)?.execute(params![
            tenant.as_str(),
            account,
            run.as_bytes(),
            step.0,
            attempt.0,
            *ordinal,
            day.0,
            int(wanted.tokens),
            wanted.nanos,
            wanted.unpriced,
            int(wanted.ms),
        ])?;
        Ok(())
    }

    /// Puts what a call used in the place of its grants.
    pub(super) fn settle(&self, tenant: &Tenant, call: &Call, used: Sum) -> rusqlite::Result<()> {
        let ok = sum::GRANT;
        let sql = format!(
            "DELETE FROM account_grant WHERE tenant = ?1 AND run = ?2 AND step = ?3
             AND attempt = ?4 AND ordinal = ?5 RETURNING account, day, {ok}"
        );
        let Call { run, step, attempt, ordinal } = call;
        let values = params![tenant.as_str(), run.as_bytes(), step.0, attempt.0, *ordinal];
        let mut delete = self.conn.prepare_cached(&sql)?;
        let rows = delete.query_map(values, |row| {
            sum::check(row, 2, "a grant's row")?;
            Ok((row.get::<_, String>(0)?, Day(row.get(1)?)))
        })?;
        let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        if used == Sum::default() {
            return Ok(());
        }
        rows.iter().try_for_each(|(account, day)| self.spend(tenant, account, *day, used))
    }

    fn spend(&self, tenant: &Tenant, account: &str, day: Day, used: Sum) -> rusqlite::Result<()> {
        let only = Within::any(account, day);
        let all = spent(self.conn, tenant, &only, Some(day))?.and(used);
        let sql = "INSERT INTO account (tenant, account, day, tokens, nanos, unpriced, ms, sum)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, row_sum(?1, ?2, ?3, ?4, ?5, ?6, ?7))
                   ON CONFLICT DO UPDATE SET tokens = excluded.tokens, nanos = excluded.nanos,
                       unpriced = excluded.unpriced, ms = excluded.ms, sum = excluded.sum";
        let Sum { tokens, nanos, unpriced, ms } = all;
        let values =
            params![tenant.as_str(), account, day.0, int(tokens), nanos, unpriced, int(ms)];
        self.conn.prepare_cached(sql)?.execute(values).map(drop)
    }
}

fn standing(conn: &Connection, tenant: &Tenant, of: &Within) -> rusqlite::Result<Standing> {
    let ok = sum::GRANT;
    let sql = format!(
        "SELECT tokens, nanos, unpriced, ms, {ok} FROM account_grant
         WHERE tenant = ?1 AND account = ?2 AND day >= ?3"
    );
    let mut select = conn.prepare_cached(&sql)?;
    let held = select.query_map(params![tenant.as_str(), &*of.account, of.since.0], |row| {
        sum::check(row, 4, "a grant's row")?;
        amount(row, 0)
    })?;
    let reserved = held.reduce(|all, more| Ok(all?.and(more?))).transpose()?;
    Ok(Standing {
        account: of.account.clone(),
        spent: spent(conn, tenant, of, None)?,
        reserved: reserved.unwrap_or_default(),
    })
}

/// What an account has spent, until a day if one is told.
fn spent(
    conn: &Connection,
    tenant: &Tenant,
    of: &Within,
    until: Option<Day>,
) -> rusqlite::Result<Sum> {
    let ok = sum::ACCOUNT;
    let sql = format!(
        "SELECT tokens, nanos, unpriced, ms, {ok} FROM account
         WHERE tenant = ?1 AND account = ?2 AND day BETWEEN ?3 AND ?4"
    );
    let until = until.map_or(u32::MAX, |day| day.0);
    let values = params![tenant.as_str(), &*of.account, of.since.0, until];
    let mut select = conn.prepare_cached(&sql)?;
    let days = select.query_map(values, |row| {
        sum::check(row, 4, "an account's row")?;
        amount(row, 0)
    })?;
    Ok(days.reduce(|all, more| Ok(all?.and(more?))).transpose()?.unwrap_or_default())
}

/// How accounts stand that were used from `since` on.
pub(super) fn accounts(
    conn: &Connection,
    tenant: &Tenant,
    since: Day,
) -> rusqlite::Result<Vec<Standing>> {
    let sql = "SELECT account FROM account WHERE tenant = ?1 AND day >= ?2
               UNION SELECT account FROM account_grant WHERE tenant = ?1 AND day >= ?2 ORDER BY 1";
    let mut select = conn.prepare_cached(sql)?;
    let names = select.query_map(params![tenant.as_str(), since.0], |row| row.get(0))?;
    let names = names.collect::<rusqlite::Result<Vec<String>>>()?;
    names.into_iter().map(|name| standing(conn, tenant, &Within::any(&name, since))).collect()
}

/// The grants that are not settled.
pub(super) fn open_grants(conn: &Connection, tenant: &Tenant) -> rusqlite::Result<Vec<Open>> {
    let ok = sum::GRANT;
    let sql = format!(
        "SELECT run, step, attempt, ordinal, tokens, nanos, unpriced, ms, {ok} FROM account_grant
         WHERE tenant = ?1 ORDER BY run, step, attempt, ordinal, account LIMIT {OPEN_MAX}"
    );
    let mut select = conn.prepare_cached(&sql)?;
    let rows = select.query_map([tenant.as_str()], |row| {
        sum::check(row, 8, "a grant's row")?;
        let call = Call {
            run: RunId::from_bytes(row.get(0)?),
            step: StepNo(row.get(1)?),
            attempt: Attempt(row.get(2)?),
            ordinal: row.get(3)?,
        };
        Ok(Open { call, granted: amount(row, 4)? })
    })?;
    let mut open = rows.collect::<rusqlite::Result<Vec<Open>>>()?;
    // Each account of a call has a row of its own.
    open.dedup_by_key(|open| open.call);
    Ok(open)
}

/// Tokens, money, calls of unknown price and time, from the column `first` on.
fn amount(row: &Row<'_>, first: usize) -> rusqlite::Result<Sum> {
    let whole = |column: usize| {
        u64::try_from(row.get::<_, i64>(column)?).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, error.into())
        })
    };
    Ok(Sum {
        tokens: whole(first)?,
        nanos: row.get(first + 1)?,
        unpriced: row.get(first + 2)?,
        ms: whole(first + 3)?,
    })
}
