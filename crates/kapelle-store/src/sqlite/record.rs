//! Records: a row for each.

use async_trait::async_trait;
use kapelle_core::Tenant;
use kapelle_core::port::journal::Error;
use kapelle_core::port::record::{RECORDS_MAX, Record, Records};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tokio::sync::oneshot;

use super::write::{Transaction, int};
use super::writer::Wish;
use super::{Sqlite, sum};

/// What somebody wants of a record.
pub(super) enum Change {
    Put(Record),
    Remove { tenant: Tenant, kind: Box<str>, id: Box<str> },
}

#[async_trait]
impl Records for Sqlite {
    async fn record(&self, tenant: &Tenant, kind: &str, id: &str) -> Result<Option<Record>, Error> {
        let (tenant, kind, id) = (tenant.clone(), kind.to_owned(), id.to_owned());
        self.readers.read(move |conn| record(conn, &tenant, &kind, &id)).await
    }

    async fn records(
        &self,
        tenant: &Tenant,
        kind: &str,
        after: &str,
    ) -> Result<Vec<Record>, Error> {
        let (tenant, kind, after) = (tenant.clone(), kind.to_owned(), after.to_owned());
        self.readers.read(move |conn| records(conn, &tenant, &kind, &after)).await
    }

    async fn put_record(&self, record: Record) -> Result<bool, Error> {
        self.change(Change::Put(record)).await
    }

    async fn remove_record(&self, tenant: &Tenant, kind: &str, id: &str) -> Result<bool, Error> {
        let (tenant, kind, id) = (tenant.clone(), kind.into(), id.into());
        self.change(Change::Remove { tenant, kind, id }).await
    }
}

impl Sqlite {
    async fn change(&self, change: Change) -> Result<bool, Error> {
        let (answer, answered) = oneshot::channel();
        self.wish(Wish::Record { change, done: false, answer });
        self.answer(answered).await
    }
}

impl Transaction<'_> {
    /// Changes a record; whether it was as it had to be.
    pub(super) fn change(&self, change: &Change) -> rusqlite::Result<bool> {
        match change {
            Change::Put(record) => self.put(record),
            Change::Remove { tenant, kind, id } => {
                let sql = "DELETE FROM record WHERE tenant = ?1 AND kind = ?2 AND id = ?3";
                let values = params![tenant.as_str(), &**kind, &**id];
                Ok(self.conn.prepare_cached(sql)?.execute(values)? > 0)
            }
        }
    }

    fn put(&self, record: &Record) -> rusqlite::Result<bool> {
        let Record { tenant, kind, id, version, body } = record;
        let there = self::record(self.conn, tenant, kind, id)?;
        if there.map_or(0, |there| there.version) != *version {
            return Ok(false);
        }
        let sql = "INSERT INTO record (tenant, kind, id, version, body, sum)
                   VALUES (?1, ?2, ?3, ?4, ?5, row_sum(?1, ?2, ?3, ?4, ?5))
                   ON CONFLICT DO UPDATE SET version = excluded.version, body = excluded.body,
                       sum = excluded.sum";
        let values = params![tenant.as_str(), &**kind, &**id, int(version + 1), body.to_string()];
        self.conn.prepare_cached(sql)?.execute(values)?;
        Ok(true)
    }
}

fn record(
    conn: &Connection,
    tenant: &Tenant,
    kind: &str,
    id: &str,
) -> rusqlite::Result<Option<Record>> {
    let ok = sum::RECORD;
    let sql = format!(
        "SELECT tenant, kind, id, version, body, {ok} FROM record
         WHERE tenant = ?1 AND kind = ?2 AND id = ?3"
    );
    conn.prepare_cached(&sql)?.query_row(params![tenant.as_str(), kind, id], read).optional()
}

fn records(
    conn: &Connection,
    tenant: &Tenant,
    kind: &str,
    after: &str,
) -> rusqlite::Result<Vec<Record>> {
    let ok = sum::RECORD;
    let sql = format!(
        "SELECT tenant, kind, id, version, body, {ok} FROM record
         WHERE tenant = ?1 AND kind = ?2 AND id > ?3 ORDER BY id LIMIT {RECORDS_MAX}"
    );
    let mut select = conn.prepare_cached(&sql)?;
    select.query_map(params![tenant.as_str(), kind, after], read)?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Record> {
    sum::check(row, 5, "a record")?;
    let text = |column: usize| Ok::<_, rusqlite::Error>(row.get::<_, String>(column)?.into());
    let body: String = row.get(4)?;
    let odd = |error: serde_json::Error| {
        rusqlite::Error::FromSqlConversionFailure(4, Type::Text, error.into())
    };
    Ok(Record {
        tenant: Tenant::new(&row.get::<_, String>(0)?),
        kind: text(1)?,
        id: text(2)?,
        version: row.get::<_, i64>(3)?.unsigned_abs(),
        body: serde_json::from_str(&body).map_err(odd)?,
    })
}
