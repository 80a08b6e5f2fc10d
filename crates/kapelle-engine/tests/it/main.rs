//! The engine: whole lives, and simulated ones.

mod life;
