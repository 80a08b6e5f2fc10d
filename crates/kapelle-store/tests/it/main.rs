//! Several processes on one store, and what is left of one that was killed.

mod processes;
