//! The wire of Anthropic's Messages.
//!
//! [`read`] is as strict as the provider, [`turns`] knows which conversations hold together,
//! [`write`] gives answers their shape, whole or as a stream.

pub(crate) mod read;
mod turns;
pub(crate) mod write;
