//! Only licences that ask for no more than a notice.
//!
//! **Invariant:** an expression is judged as SPDX means it: one side of `OR` is enough, both
//! sides of `AND` are needed, `/` is the old way to write `OR`. What cannot be read is a fault.

use serde_json::Value;

use super::{Faults, crates};

const ALLOWED: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Zlib",
];

pub(super) fn check(metadata: &Value) -> Faults {
    crates::packages(metadata)
        .filter_map(|package| {
            let licence = package["license"].as_str().unwrap_or("");
            let name = crates::name(package);
            (!allowed(licence)).then(|| format!("`{name}` has the licence `{licence}`"))
        })
        .collect()
}

/// Whether the expression can be met with allowed licences alone.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = Words(spaced.split_whitespace().collect::<Vec<_>>().into_iter().peekable());
    let met = words.either();
    met == Some(true) && words.0.next().is_none()
}

/// The words that are not read yet. Each method answers `None` where they make no expression.
struct Words<'a>(std::iter::Peekable<std::vec::IntoIter<&'a str>>);

impl Words<'_> {
    fn either(&mut self) -> Option<bool> {
        let mut met = self.both()?;
        while self.0.next_if_eq(&"OR").is_some() {
            met |= self.both()?;
        }
        Some(met)
    }

    fn both(&mut self) -> Option<bool> {
        let mut met = self.one()?;
        while self.0.next_if_eq(&"AND").is_some() {
            met &= self.one()?;
        }
        Some(met)
    }

    fn one(&mut self) -> Option<bool> {
        let word = self.0.next()?;
        if word == "(" {
            let met = self.either();
            return self.0.next_if_eq(&")").and(met);
        }
        if ["OR", "AND", "WITH", ")"].contains(&word) {
            return None;
        }
        if self.0.next_if_eq(&"WITH").is_some() {
            let exception = self.0.next()?;
            return Some(ALLOWED.contains(&format!("{word} WITH {exception}").as_str()));
        }
        Some(ALLOWED.contains(&word))
    }
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn one_side_of_or_and_both_of_and_decide() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(GPL-2.0 OR MIT) AND ISC",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
            "MIT OR GPL-3.0 AND GPL-2.0",
        ] {
            assert!(allowed(good), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR ISC) AND GPL-3.0",
            "GPL-2.0 WITH LLVM-exception",
            "MIT OR",
            "(MIT",
            "MIT ISC",
            "AND MIT",
        ] {
            assert!(!allowed(bad), "{bad}");
        }
    }
}
