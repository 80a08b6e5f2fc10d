//! The steps of a run, by number. It only grows.
//!
//! In tests it counts how many steps are looked at: that no transition looks at all of them is a
//! promise, and this is how it is measured without a clock.

use std::ops::{Index, IndexMut};

use super::step::Step;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Arena {
    steps: Vec<Step>,
    #[cfg(test)]
    looks: looks::Looks,
}

impl Arena {
    pub(super) fn new(steps: Vec<Step>) -> Self {
        Self {
            steps,
            #[cfg(test)]
            looks: looks::Looks::default(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.steps.len()
    }

    pub(super) fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    pub(super) fn get(&self, index: usize) -> Option<&Step> {
        self.look(1);
        self.steps.get(index)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Step> {
        self.look(1);
        self.steps.get_mut(index)
    }

    pub(super) fn all(&self) -> &[Step] {
        self.look(self.len());
        &self.steps
    }

    #[cfg(test)]
    pub(super) fn looks(&self) -> usize {
        self.looks.count()
    }

    #[cfg(test)]
    fn look(&self, count: usize) {
        self.looks.add(count);
    }

    #[cfg(not(test))]
    #[inline]
    #[expect(clippy::unused_self, reason = "only tests count")]
    const fn look(&self, _count: usize) {}
}

impl Index<usize> for Arena {
    type Output = Step;

    fn index(&self, index: usize) -> &Step {
        self.look(1);
        &self.steps[index]
    }
}

impl IndexMut<usize> for Arena {
    fn index_mut(&mut self, index: usize) -> &mut Step {
        self.look(1);
        &mut self.steps[index]
    }
}

#[cfg(test)]
mod looks {
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Debug, Default)]
    pub(super) struct Looks(AtomicUsize);

    impl Looks {
        pub(super) fn add(&self, count: usize) {
            self.0.fetch_add(count, Ordering::Relaxed);
        }

        pub(super) fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Clone for Looks {
        fn clone(&self) -> Self {
            Self(AtomicUsize::new(self.count()))
        }
    }

    impl PartialEq for Looks {
        fn eq(&self, _other: &Self) -> bool {
            true
        }
    }
}
