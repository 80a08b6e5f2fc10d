//! "Did you mean …?": the nearest of the names there are.

/// Whether a hint is worth looking at all of so many names, after so many problems: nobody reads
/// hundreds of hints, and in a large file they would take minutes.
pub(crate) const fn pays(problems: usize, names: usize) -> bool {
    problems < 200 && problems.saturating_mul(names) < 200_000
}

/// The sentence that proposes the one of `names` nearest to `wrong`, if one is near.
pub(crate) fn one_of<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(wrong, names).map(|name| format!("did you mean `{name}`?"))
}

/// The one of `names` nearest to `wrong`; `None` where all are too far to have been meant.
pub(crate) fn nearest<'a>(
    wrong: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = (wrong.chars().count() / 3).max(1);
    // Names are short; a long text is no misspelt name.
    if wrong.len() > 80 {
        return None;
    }
    names
        .into_iter()
        .filter(|name| name.len() <= 80 && name.len().abs_diff(wrong.len()) <= 4 * limit)
        .map(|name| (distance(&wrong.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// How many letters must be changed, added, dropped or swapped with the next.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_proposed_and_a_far_one_is_not() {
        let names = ["backend", "frontend", "database"];
        assert_eq!(nearest("backnd", names), Some("backend"));
        assert_eq!(nearest("fornt-end", names), Some("frontend"));
        assert_eq!(nearest("BACKEND", names), Some("backend"));
        assert_eq!(nearest("publish", names), None);
    }

    #[test]
    fn letters_are_changed_added_dropped_and_swapped() {
        let cases = [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("ab", "ba", 1),
            ("xaby", "xbay", 1),
            ("abcd", "badc", 2),
            ("ab", "bc", 2),
            ("ab", "ca", 2),
            ("abc", "ca", 3),
            ("aab", "aba", 1),
        ];
        for (a, b, letters) in cases {
            assert_eq!((distance(a, b), distance(b, a)), (letters, letters), "{a} {b}");
        }
    }

    #[test]
    fn long_texts_are_no_misspelt_names() {
        let long = |letters| "x".repeat(letters);
        let (short, most, over) = (&long(79), &long(80), &long(81));
        assert_eq!(nearest(most, [&**short]), Some(&**short));
        assert_eq!(nearest(short, [&**most]), Some(&**most));
        assert_eq!(nearest(over, [&**most]), None);
        assert_eq!(nearest(most, [&**over]), None);
        // A letter may have four bytes.
        assert_eq!(nearest("abcdefghi", ["abcdef🎻🎻🎻"]), Some("abcdef🎻🎻🎻"));
    }

    #[test]
    fn hints_are_given_while_they_are_read_and_cheap() {
        assert!(pays(199, 1_000) && pays(0, usize::MAX) && pays(100, 1_999));
        assert!(!pays(200, 1) && !pays(100, 2_000));
    }
}
