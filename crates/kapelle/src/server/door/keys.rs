//! API keys: `kap_<id>_<32 random bytes>_<check>`, kept as their digest.
//!
//! **Invariants:** a key is shown once, when it is made; what is kept of it opens nothing. One that was
//! revoked or is too old opens nothing either, on any node within [`TRUSTED`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kapelle_core::port::journal::Error;
use kapelle_core::port::record::{RECORDS_MAX, Record, Records};
use kapelle_core::{Digest, Tenant, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Caller;
use super::permission::Permissions;

/// The kind of their records.
const KIND: &str = "key";
/// What every key begins with.
const PREFIX: &str = "kap";
/// How long a node goes on with what it knows of a key.
const TRUSTED: Duration = Duration::from_millis(500);
/// How exactly it is kept when a key was last used.
const USED_PACE: i64 = 60_000_000;
/// The longest name of a tenant, in characters.
const TENANT_MAX: usize = 100;
/// How many keys are remembered: more than this are read each time.
const KNOWN_MAX: usize = 10_000;

/// What is kept of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Key {
    /// What people call it.
    pub(crate) name: Box<str>,
    /// Whose it is.
    pub(crate) tenant: Tenant,
    /// What it may do.
    pub(crate) roles: Vec<Box<str>>,
    /// The workflows it may submit, each whole or with a `*` at its end; `None`: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) workflows: Option<Vec<Box<str>>>,
    /// The agents that what it submits may name; `None`: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agents: Option<Vec<Box<str>>>,
    pub(crate) created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revoked_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) used_at: Option<Timestamp>,
    /// Of the whole key.
    pub(crate) digest: Box<str>,
}

impl Key {
    /// One that may do nothing yet.
    pub(crate) fn made_at(created_at: Timestamp) -> Self {
        Self {
            name: "".into(),
            tenant: Tenant::default(),
            roles: Vec::new(),
            workflows: None,
            agents: None,
            created_at,
            expires_at: None,
            revoked_at: None,
            used_at: None,
            digest: "".into(),
        }
    }
}

/// The keys of a store.
pub(crate) struct Keys {
    records: Arc<dyn Records>,
    known: Mutex<HashMap<Digest, Known>>,
}

/// Who showed a key when it was last looked at.
struct Known {
    at: Instant,
    until: Option<Timestamp>,
    caller: Arc<Caller>,
}

impl Keys {
    pub(crate) fn new(records: Arc<dyn Records>) -> Self {
        Self { records, known: Mutex::default() }
    }

    /// Makes a key of `like`, durably: its id, and the key itself, which is nowhere else.
    pub(crate) async fn create(&self, like: Key) -> Result<(Box<str>, String), Error> {
        loop {
            let id: Box<str> = random::<6>().into();
            let text = format!("{PREFIX}_{id}_{}", random::<32>());
            let text = format!("{text}_{}", check_of(&text));
            let key = Key { digest: Digest::of(text.as_bytes()).hex().into(), ..like.clone() };
            if self.put(&id, 0, &key).await? {
                return Ok((id, text));
            }
        }
    }

    /// All keys of a tenant, with their ids.
    pub(crate) async fn of(&self, tenant: &Tenant) -> Result<Vec<(Box<str>, Key)>, Error> {
        let mut all = self.all().await?;
        all.retain(|(_, key)| key.tenant == *tenant);
        Ok(all)
    }

    /// Whether there is any key at all.
    pub(crate) async fn are_there(&self) -> Result<bool, Error> {
        Ok(!self.records.records(&ring(), KIND, "").await?.is_empty())
    }

    /// Makes a key of a tenant open nothing any more; whether there is one.
    pub(crate) async fn revoke(
        &self,
        tenant: &Tenant,
        id: &str,
        now: Timestamp,
    ) -> Result<bool, Error> {
        loop {
            let Some((version, mut key)) = self.read(id).await? else { return Ok(false) };
            if key.tenant != *tenant {
                return Ok(false);
            }
            key.revoked_at = key.revoked_at.or(Some(now));
            if self.put(id, version, &key).await? {
                self.lock().clear();
                return Ok(true);
            }
        }
    }

    /// Who shows the key `text`; `None`: nobody who may.
    pub(crate) async fn caller(
        &self,
        text: &str,
        now: Timestamp,
    ) -> Result<Option<Arc<Caller>>, Error> {
        let Some(id) = id_of(text) else { return Ok(None) };
        let digest = Digest::of(text.as_bytes());
        let is_alive = |until: Option<Timestamp>| until.is_none_or(|until| now < until);
        if let Some((until, caller)) = self.remembered(&digest) {
            return Ok(is_alive(until).then_some(caller));
        }
        let Some((version, mut key)) = self.read(id).await? else { return Ok(None) };
        // Digests of high entropy may be compared byte by byte: what is learnt of one is not the key.
        if *key.digest != *digest.hex() || key.revoked_at.is_some() || !is_alive(key.expires_at) {
            return Ok(None);
        }
        // A role that is no more permits nothing.
        let roles = key.roles.iter().map(AsRef::as_ref);
        let may = Permissions::of_roles(roles).unwrap_or(Permissions::NONE);
        let caller = Arc::new(Caller {
            name: format!("key {id} ({})", key.name).into(),
            person: key.name.clone(),
            tenant: key.tenant.clone(),
            may,
            is_owner: false,
            workflows: key.workflows.clone(),
            agents: key.agents.clone(),
        });
        self.remember(digest, key.expires_at, caller.clone());
        if key.used_at.is_none_or(|used| now.0 - used.0 >= USED_PACE) {
            key.used_at = Some(now);
            // Whoever came first has noted it.
            self.put(id, version, &key).await?;
        }
        Ok(Some(caller))
    }

    fn remembered(&self, digest: &Digest) -> Option<(Option<Timestamp>, Arc<Caller>)> {
        let known = self.lock();
        let known = known.get(digest).filter(|known| known.at.elapsed() < TRUSTED)?;
        Some((known.until, known.caller.clone()))
    }

    fn remember(&self, digest: Digest, until: Option<Timestamp>, caller: Arc<Caller>) {
        let mut known = self.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(digest, Known { at: Instant::now(), until, caller });
    }

    async fn all(&self) -> Result<Vec<(Box<str>, Key)>, Error> {
        let mut all: Vec<(Box<str>, Key)> = Vec::new();
        loop {
            let after = all.last().map_or("", |(id, _)| id).to_owned();
            let page = self.records.records(&ring(), KIND, &after).await?;
            let last = page.len() < RECORDS_MAX;
            for record in page {
                all.push((record.id.clone(), key_of(record)?.1));
            }
            if last {
                return Ok(all);
            }
        }
    }

    async fn read(&self, id: &str) -> Result<Option<(u64, Key)>, Error> {
        self.records.record(&ring(), KIND, id).await?.map(key_of).transpose()
    }

    async fn put(&self, id: &str, version: u64, key: &Key) -> Result<bool, Error> {
        let body = serde_json::to_value(key).expect("it is JSON");
        let (tenant, kind, id) = (ring(), KIND.into(), id.into());
        self.records.put_record(Record { tenant, kind, id, version, body }).await
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys of all tenants are in one place: whose one is, it says itself.
fn ring() -> Tenant {
    Tenant::new("")
}

fn key_of(record: Record) -> Result<(u64, Key), Error> {
    let key = serde_json::from_value(record.body).map_err(|error| Error::Unavailable {
        file: format!("the record of key `{}`", record.id).into(),
        message: format!("it is none: {error}").into(),
    })?;
    Ok((record.version, key))
}

/// The tenant of that name, if it is one.
pub(in crate::server) fn tenant(name: &str) -> Option<Tenant> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_one = (1..=TENANT_MAX).contains(&name.len()) && name.chars().all(fits);
    is_one.then(|| Tenant::new(name))
}

/// The id in a key, if its check is right: most of what is no key is told without a look at the store.
fn id_of(text: &str) -> Option<&str> {
    let (front, check) = text.rsplit_once('_')?;
    let mut parts = front.split('_');
    let (prefix, id, secret) = (parts.next()?, parts.next()?, parts.next()?);
    let is_key = prefix == PREFIX && !secret.is_empty() && parts.next().is_none();
    (is_key && check == check_of(front)).then_some(id)
}

fn check_of(front: &str) -> String {
    base62(&crc32fast::hash(front.as_bytes()).to_be_bytes())
}

/// So many random bytes, as letters and digits.
pub(super) fn random<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    base62(&bytes)
}

fn base62(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let (mut number, mut text) = (bytes.to_vec(), Vec::new());
    while number.iter().any(|byte| *byte > 0) {
        let mut rest = 0_u32;
        for byte in &mut number {
            let all = rest << 8 | u32::from(*byte);
            *byte = u8::try_from(all / 62).expect("the rest is below 62");
            rest = all % 62;
        }
        text.push(char::from(DIGITS[rest as usize]));
    }
    text.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kapelle_store::Memory;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn like(roles: &[&str]) -> Key {
        let roles = roles.iter().map(|role| (*role).into()).collect();
        Key { name: "ci".into(), tenant: Tenant::new("acme"), roles, ..Key::made_at(NOW) }
    }

    #[tokio::test]
    async fn a_key_opens_until_it_is_revoked_or_too_old() {
        let store = Arc::new(Memory::new());
        let keys = Keys::new(store.clone());
        let (id, text) = keys.create(like(&["submitter"])).await.unwrap();
        let caller = keys.caller(&text, NOW).await.unwrap().unwrap();
        assert_eq!((caller.tenant.as_str(), caller.is_owner), ("acme", false));
        assert!(caller.may.has(super::super::permission::Permission::TaskSubmit));
        assert!(!caller.may.has(super::super::permission::Permission::SystemAdmin));
        let kept = keys.of(&Tenant::new("acme")).await.unwrap();
        assert_eq!((kept.len(), kept[0].1.used_at), (1, Some(NOW)));
        let kept = serde_json::to_string(&kept[0].1).unwrap();
        assert!(!kept.contains(text.split('_').nth(2).unwrap()), "{kept}");
        assert!(keys.of(&Tenant::default()).await.unwrap().is_empty());
        // Nobody else's, and none that is not whole.
        assert!(!keys.revoke(&Tenant::default(), &id, NOW).await.unwrap());
        for odd in
            ["", "kap", "kap_a_b_c", &text[1..], &text[..text.len() - 1], &format!("{text}0")]
        {
            assert_eq!(keys.caller(odd, NOW).await.unwrap(), None, "{odd}");
        }
        // Another node hears of it as soon as it looks again.
        let other = Keys::new(store);
        assert!(other.caller(&text, NOW).await.unwrap().is_some());
        assert!(keys.revoke(&Tenant::new("acme"), &id, NOW).await.unwrap());
        assert_eq!(keys.caller(&text, NOW).await.unwrap(), None);
        tokio::time::pause();
        tokio::time::advance(TRUSTED).await;
        assert_eq!(other.caller(&text, NOW).await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_old_key_opens_nothing_even_if_it_is_known() {
        let keys = Keys::new(Arc::new(Memory::new()));
        let old = Key { expires_at: Some(Timestamp(NOW.0 + 5)), ..like(&["viewer"]) };
        let (_, text) = keys.create(old).await.unwrap();
        assert!(keys.caller(&text, NOW).await.unwrap().is_some());
        assert_eq!(keys.caller(&text, Timestamp(NOW.0 + 5)).await.unwrap(), None);
    }

    #[test]
    fn numbers_are_written_with_letters() {
        assert_eq!(base62(&[0]), "");
        assert_eq!(base62(&[61]), "z");
        assert_eq!(base62(&[1, 0]), "48");
        let (a, b) = (random::<32>(), random::<32>());
        assert!(a != b && a.len() > 36, "{a}");
    }
}
