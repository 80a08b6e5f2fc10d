//! `[jwt]`: whose tokens open a server, beside its own keys.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::server::door::jwt::Settings;

/// Whose tokens open; none, where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Jwt {
    /// What `iss` says.
    pub(crate) issuer: String,
    /// What `aud` names.
    pub(crate) audience: String,
    /// The file of the secret that signs with HS256.
    pub(crate) secret_file: String,
    /// The file of the public keys (JWKS) for RS256, ES256 and EdDSA; read again when it changes.
    pub(crate) jwks_file: String,
}

impl Jwt {
    pub(super) fn check(&self) -> Result<(), String> {
        if *self == Self::default() {
            return Ok(());
        }
        for (name, value) in [("issuer", &self.issuer), ("audience", &self.audience)] {
            if value.is_empty() {
                return Err(format!("`jwt.{name}` is not there: what tokens have to say"));
            }
        }
        if self.secret_file.is_empty() && self.jwks_file.is_empty() {
            return Err("`jwt.secret_file` or `jwt.jwks_file` has to be there".to_owned());
        }
        Ok(())
    }

    /// The same for the door, if any tokens open it.
    pub(crate) fn settings(&self) -> Option<Settings> {
        let file = |file: &str| (!file.is_empty()).then(|| PathBuf::from(file));
        (*self != Self::default()).then(|| Settings {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            secret_file: file(&self.secret_file),
            jwks_file: file(&self.jwks_file),
        })
    }
}
