//! Signatures on thoughts, and marks on calls of tools, that the fake knows again.
//!
//! **Invariant:** they follow from the script's seed, so a fake that is started anew knows those of
//! the one before; nothing is remembered.

/// The secret of one fake.
#[derive(Clone, Debug)]
pub(crate) struct Signer([u8; 32]);

impl Signer {
    pub(crate) fn new(seed: u64) -> Self {
        Self(blake3::derive_key("kapelle-fake signatures", &seed.to_le_bytes()))
    }

    /// The signature of a thought of this model, in the conversation that began so.
    pub(crate) fn thought(&self, model: &str, opening: &str, text: &str) -> String {
        format!("fake-signature-{}", self.mac(&["thought", model, opening, text]))
    }

    /// The id of a call; it tells whether a thought came before it.
    pub(crate) fn call(&self, thought: bool, n: u64, index: usize, prefix: &str) -> String {
        let kind = if thought { "t" } else { "n" };
        let unique = self.mac(&["unique", &n.to_string(), &index.to_string()]);
        let body = &unique[..16];
        format!("{prefix}{body}{kind}{}", &self.mac(&["call", kind, body])[..8])
    }

    /// Whether the id is one of ours, of a call that a thought came before.
    pub(crate) fn had_thought(&self, id: &str) -> bool {
        let Some((body, mark)) = id.split_once('_').and_then(|(_, rest)| rest.split_at_checked(16))
        else {
            return false;
        };
        mark.strip_prefix('t').is_some_and(|mac| mac == &self.mac(&["call", "t", body])[..8])
    }

    /// A name that nothing else has.
    pub(crate) fn id(&self, prefix: &str, n: u64) -> String {
        format!("{prefix}{}", &self.mac(&["id", prefix, &n.to_string()])[..24])
    }

    fn mac(&self, parts: &[&str]) -> String {
        let mut hash = blake3::Hasher::new_keyed(&self.0);
        for part in parts {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().to_hex().to_string()
    }
}
