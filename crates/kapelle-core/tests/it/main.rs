//! What core promises, tried from outside.

#![expect(clippy::unwrap_used, reason = "what cannot be read here is a broken test")]
#![expect(
    clippy::disallowed_methods,
    reason = "scripts are files, and a test may ask the environment"
)]

mod corpus;
mod driver;
mod run;
mod script;
mod sim;
