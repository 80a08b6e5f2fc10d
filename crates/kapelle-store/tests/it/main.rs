//! Several processes on one store, and what is left of one that was killed.

#[cfg(test)]
mod processes;
