//! The engine: turns decisions into work, and work into facts.
pub mod shards;
mod slots;
mod values;
pub use slots::Slots;
