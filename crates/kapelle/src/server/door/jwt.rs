//! Tokens that somebody else gave out (JWT): signed by a key that the operator named, and meant for us.
//!
//! **Invariants:** what a key verifies is fixed by the key, not by the token: `alg` may only agree. A token
//! without an end, an audience, an issuer or a tenant opens nothing. Signatures are `ring`'s; what is left
//! around them is little, and all of it is here.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kapelle_core::{Digest, Timestamp};
use ring::hmac;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use tokio::time::Instant;

use super::Caller;
use super::permission::Permissions;

/// How far clocks may differ, in seconds.
const LEEWAY: f64 = 30.0;
/// How often it is looked whether the files of keys have changed.
const LOOK: Duration = Duration::from_secs(1);
/// The longest file of keys and the longest token, in bytes.
const FILE_MAX: u64 = 1 << 20;
const TOKEN_MAX: usize = 8 << 10;
/// The shortest secret, in bytes.
const SECRET_MIN: usize = 32;
/// The shortest modulus of RSA, in bytes.
const MODULUS_MIN: usize = 256;
/// How many tokens are remembered as verified.
const KNOWN_MAX: usize = 10_000;
/// The longest name of somebody, in characters.
const NAME_MAX: usize = 200;

/// Whose tokens open, and for whom they must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// What `iss` says.
    pub(crate) issuer: String,
    /// What `aud` names.
    pub(crate) audience: String,
    /// The secret that signs with HS256.
    pub(crate) secret_file: Option<PathBuf>,
    /// The public keys for RS256, ES256 and EdDSA.
    pub(crate) jwks_file: Option<PathBuf>,
}

/// The tokens of one issuer.
pub(crate) struct Tokens {
    settings: Settings,
    state: Mutex<State>,
}

struct State {
    keys: Arc<Vec<Named>>,
    /// What the files were when they were read, and when that was looked at.
    stamps: [Option<Stamp>; 2],
    looked: Instant,
    /// Verified with these keys: until when, and who shows it.
    known: HashMap<Digest, (f64, Arc<Caller>)>,
}

type Stamp = (SystemTime, u64);

/// A key, and what tokens call it.
struct Named {
    id: Option<Box<str>>,
    key: Key,
}

enum Key {
    Secret(hmac::Key),
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Several,
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    tenant: String,
    roles: Several,
    name: Option<String>,
}

/// One text, or some.
#[derive(Deserialize)]
#[serde(untagged)]
enum Several {
    One(String),
    Some(Vec<String>),
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Tokens {
    /// Reads the keys that `settings` name; what is wrong with them otherwise.
    pub(crate) fn open(settings: Settings) -> Result<Self, String> {
        let keys = Arc::new(read(&settings)?);
        let (stamps, known) = (stamps(&settings), HashMap::new());
        let state = Mutex::new(State { keys, stamps, looked: Instant::now(), known });
        Ok(Self { settings, state })
    }

    /// Who shows `token`; `None`: nobody who may.
    pub(crate) fn caller(&self, token: &str, now: Timestamp) -> Option<Arc<Caller>> {
        let seconds = now.0 as f64 / 1e6;
        let digest = Digest::of(token.as_bytes());
        let keys = {
            let mut state = self.lock();
            self.look(&mut state);
            if let Some((until, caller)) = state.known.get(&digest) {
                return (seconds < *until).then(|| caller.clone());
            }
            state.keys.clone()
        };
        let (until, caller) = self.verified(token, &keys, seconds)?;
        let mut state = self.lock();
        // Not if the keys have changed meanwhile.
        if Arc::ptr_eq(&state.keys, &keys) {
            if state.known.len() >= KNOWN_MAX {
                state.known.clear();
            }
            state.known.insert(digest, (until, caller.clone()));
        }
        Some(caller)
    }

    fn verified(&self, token: &str, keys: &[Named], now: f64) -> Option<(f64, Arc<Caller>)> {
        let (message, signature) = token.rsplit_once('.').filter(|_| token.len() <= TOKEN_MAX)?;
        let (head, claims) = message.split_once('.')?;
        let head: Head = serde_json::from_slice(&decoded(head)?).ok()?;
        let key = head.key(keys)?;
        if !key.verify(message.as_bytes(), &decoded(signature)?) {
            return None;
        }
        let claims: Claims = serde_json::from_slice(&decoded(claims)?).ok()?;
        let until = claims.exp + LEEWAY;
        let begun = claims.nbf.is_none_or(|from| from - LEEWAY <= now);
        let ours = claims.iss == self.settings.issuer
            && claims.aud.iter().any(|audience| audience == self.settings.audience);
        if !ours || !begun || now >= until {
            return None;
        }
        Some((until, Arc::new(claims.caller()?)))
    }

    /// Reads the keys again if their files have changed; what cannot be read changes nothing.
    fn look(&self, state: &mut State) {
        if state.looked.elapsed() < LOOK {
            return;
        }
        state.looked = Instant::now();
        let stamps = stamps(&self.settings);
        if stamps == state.stamps {
            return;
        }
        state.stamps = stamps;
        match read(&self.settings) {
            Ok(keys) => (state.keys, state.known) = (Arc::new(keys), HashMap::new()),
            Err(error) => tracing::error!("{error}; the keys of before stay in use"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Head {
    /// The one key that the token may be signed with.
    fn key<'a>(&self, keys: &'a [Named]) -> Option<&'a Key> {
        if self.crit.is_some() {
            return None;
        }
        let mut fits = keys.iter().filter(|named| {
            named.key.algorithm() == self.alg
                && (self.kid.is_none() || named.id.as_deref() == self.kid.as_deref())
        });
        let first = fits.next()?;
        // Without a name it is the one there is.
        fits.next().is_none().then_some(&first.key)
    }
}

impl Claims {
    fn caller(self) -> Option<Caller> {
        let fits = |name: &str| (1..=NAME_MAX).contains(&name.chars().count());
        let tenant = super::keys::tenant(&self.tenant)?;
        if !fits(&self.sub) || !self.name.as_deref().is_none_or(fits) {
            return None;
        }
        let words = self.roles.iter().flat_map(str::split_whitespace);
        // Other programs' roles stand there too: they permit nothing here.
        let may = words.fold(Permissions::NONE, |may, role| {
            may.or(Permissions::of_roles([role].into_iter()).unwrap_or(Permissions::NONE))
        });
        Some(Caller {
            name: format!("token {tenant}/{}", self.sub).into(),
            person: self.name.unwrap_or(self.sub).into(),
            tenant,
            may,
            ..Caller::nobody()
        })
    }
}

impl Several {
    fn iter(&self) -> impl Iterator<Item = &str> {
        let all = match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Some(all) => all,
        };
        all.iter().map(String::as_str)
    }
}

impl Key {
    const fn algorithm(&self) -> &'static str {
        match self {
            Self::Secret(_) => "HS256",
            Self::Rsa { .. } => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    fn verify(&self, message: &[u8], signed: &[u8]) -> bool {
        let by =
            |algorithm, key: &[u8]| UnparsedPublicKey::new(algorithm, key).verify(message, signed);
        let verified = match self {
            Self::Secret(key) => hmac::verify(key, message, signed),
            Self::Rsa { n, e } => RsaPublicKeyComponents { n, e }.verify(
                &signature::RSA_PKCS1_2048_8192_SHA256,
                message,
                signed,
            ),
            Self::P256(key) => by(&signature::ECDSA_P256_SHA256_FIXED, key),
            Self::Ed25519(key) => by(&signature::ED25519, key),
        };
        verified.is_ok()
    }
}

impl Jwk {
    /// The key it is; `None` if it is of a kind that is not used here.
    fn key(&self) -> Result<Option<Key>, String> {
        if self.used_for.as_deref().is_some_and(|used| used != "sig") {
            return Ok(None);
        }
        let part = |name: &str, part: &Option<String>| {
            let bytes = part.as_deref().and_then(decoded);
            bytes.ok_or_else(|| format!("`{name}` is not there, or no base64url"))
        };
        Ok(Some(match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (part("n", &self.n)?, part("e", &self.e)?);
                let n: Vec<u8> = n.into_iter().skip_while(|byte| *byte == 0).collect();
                if n.len() < MODULUS_MIN {
                    return Err("`n` has less than 2048 bits".to_owned());
                }
                Key::Rsa { n, e }
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (part("x", &self.x)?, part("y", &self.y)?);
                if x.len() != 32 || y.len() != 32 {
                    return Err("`x` and `y` have 32 bytes each".to_owned());
                }
                Key::P256([&[4][..], &x, &y].concat())
            }
            ("OKP", Some("Ed25519")) => {
                let x = part("x", &self.x)?;
                if x.len() != 32 {
                    return Err("`x` has 32 bytes".to_owned());
                }
                Key::Ed25519(x)
            }
            ("oct", _) => {
                return Err("it is a secret: give that as `jwt.secret_file`".to_owned());
            }
            _ => return Ok(None),
        }))
    }
}

fn read(settings: &Settings) -> Result<Vec<Named>, String> {
    let mut keys = Vec::new();
    if let Some(file) = &settings.secret_file {
        let secret = content("jwt.secret_file", file)?;
        let secret = secret.trim_ascii();
        if secret.len() < SECRET_MIN {
            return Err(format!(
                "`jwt.secret_file`: `{}` has less than {SECRET_MIN} bytes: take random ones",
                file.display()
            ));
        }
        keys.push(Named { id: None, key: Key::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret)) });
    }
    if let Some(file) = &settings.jwks_file {
        let wrong = |what: String| format!("`jwt.jwks_file`: `{}`: {what}", file.display());
        let jwks = content("jwt.jwks_file", file)?;
        let jwks: Jwks = serde_json::from_slice(&jwks)
            .map_err(|error| wrong(format!("it is no set of keys: {error}")))?;
        let before = keys.len();
        for (n, jwk) in jwks.keys.iter().enumerate() {
            let key = jwk.key().map_err(|error| wrong(format!("key {}: {error}", n + 1)))?;
            let Some(key) = key else { continue };
            let id: Option<Box<str>> = jwk.kid.as_deref().map(Into::into);
            if id.is_some() && keys.iter().any(|named: &Named| named.id == id) {
                return Err(wrong(format!("key {}: its `kid` is that of another one", n + 1)));
            }
            keys.push(Named { id, key });
        }
        if keys.len() == before {
            return Err(wrong("it has no key for RS256, ES256 or EdDSA".to_owned()));
        }
    }
    Ok(keys)
}

fn content(setting: &str, file: &Path) -> Result<Vec<u8>, String> {
    let wrong = |what: String| format!("`{setting}`: `{}`: {what}", file.display());
    let found = fs::metadata(file).map_err(|error| wrong(error.to_string()))?;
    if !found.is_file() || found.len() > FILE_MAX {
        return Err(wrong("it is no file of at most 1 MiB".to_owned()));
    }
    fs::read(file).map_err(|error| wrong(error.to_string()))
}

fn stamps(settings: &Settings) -> [Option<Stamp>; 2] {
    [&settings.secret_file, &settings.jwks_file].map(|file| {
        let found = fs::metadata(file.as_ref()?).ok()?;
        Some((found.modified().ok()?, found.len()))
    })
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests;
