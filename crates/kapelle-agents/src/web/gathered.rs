//! What came of the pages of one call, as far as there is room for it.
//!
//! **Invariant:** all pages together are no longer than [`BYTES_MAX`]: whoever reads them takes no
//! more, and memory is bounded by it. What comes after a page without room is not asked for.

use kapelle_core::Json;
use kapelle_core::port::agent::{Failure, FailureKind};
use serde_json::json;

use super::input::Input;

/// How long all pages of a call may be together, as JSON.
pub(super) const BYTES_MAX: usize = 32 << 20;

/// The pages so far, in the order of their addresses.
pub(super) struct Gathered<'a> {
    input: &'a Input,
    bytes: usize,
    pages: Vec<Json>,
    failed: Vec<Json>,
    first: Option<Failure>,
}

impl<'a> Gathered<'a> {
    pub(super) fn new(input: &'a Input) -> Self {
        Self { input, bytes: 0, pages: Vec::new(), failed: Vec::new(), first: None }
    }

    /// Takes what came of the next page; whether there may be room for another one.
    pub(super) fn take(&mut self, end: Result<Json, Failure>) -> Result<bool, Failure> {
        let page = match end {
            Ok(page) => page,
            Err(failure) => {
                self.miss(failure)?;
                return Ok(true);
            }
        };
        self.bytes += length(&page);
        if self.bytes <= BYTES_MAX {
            self.pages.push(page);
            return Ok(true);
        }
        while self.pages.len() + self.failed.len() < self.input.targets.len() {
            self.miss(self.no_room())?;
        }
        Ok(false)
    }

    fn no_room(&self) -> Failure {
        let (fit, max) = (self.pages.len(), BYTES_MAX >> 20);
        let message = format!(
            "all pages of a step have {max} MiB of output, and the first {fit} fill them; read the \
             others in steps of their own"
        );
        Failure::new(FailureKind::Refused, "too_much", message)
    }

    /// Lists the next page as not read, where that is no failure of all.
    fn miss(&mut self, failure: Failure) -> Result<(), Failure> {
        if !self.input.partial {
            return Err(failure);
        }
        let (given, _) = &self.input.targets[self.pages.len() + self.failed.len()];
        self.failed.push(json!({
            "url": given, "kind": failure.kind, "code": failure.code, "message": failure.message
        }));
        self.first.get_or_insert(failure);
        Ok(())
    }

    /// What the call gives.
    pub(super) fn end(mut self) -> Result<Json, Failure> {
        // Nothing is no part of anything.
        if let Some(failure) = self.first.filter(|_| self.pages.is_empty()) {
            return Err(failure);
        }
        match self.pages.pop() {
            Some(page) if self.input.is_single => Ok(page),
            last => {
                self.pages.extend(last);
                Ok(json!({"pages": self.pages, "failed": self.failed}))
            }
        }
    }
}

/// How long `page` is as JSON; nothing is written for that.
fn length(page: &Json) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Neither counting nor a JSON value can fail.
    serde_json::to_writer(&mut count, page).map_or(usize::MAX / 2, |()| count.0)
}
