//! Several processes on one store, and what is left of one that was killed.

#[cfg(test)]
mod actor;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod flips;
#[cfg(test)]
mod flips_base;
#[cfg(test)]
mod large;
#[cfg(test)]
mod processes;
