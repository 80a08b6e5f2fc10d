//! `robots.txt` as RFC 9309 has it, with `Crawl-delay`.
//!
//! **Invariant:** hostile rules cost no more than their length: no pattern is tried in two ways.

use std::time::Duration;

use url::Url;

/// Our name there.
const NAME: &str = "kapelle";
/// The most rules that are kept.
const RULES_MAX: usize = 5_000;

/// What a host wishes of us.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    /// How long to wait between two requests.
    pub(super) delay: Option<Duration>,
}

#[derive(Debug)]
struct Rule {
    allows: bool,
    pattern: String,
}

/// Whom a group of rules is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Us,
    All,
    Others,
}

impl Rules {
    /// Reads the rules for us, or else those for all.
    pub(super) fn parse(text: &str) -> Self {
        let (mut ours, mut all) = (None, Self::default());
        let (mut group, mut in_names) = (Vec::new(), false);
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.split('#').next().unwrap_or_default();
            let Some((key, value)) = line.split_once(':') else { continue };
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
            if key == "user-agent" {
                if !in_names {
                    group.clear();
                }
                in_names = true;
                group.push(whom(value));
                if group.contains(&For::Us) {
                    ours.get_or_insert_with(Self::default);
                }
                continue;
            }
            in_names &= !matches!(&*key, "allow" | "disallow" | "crawl-delay");
            if group.contains(&For::Us) {
                ours.get_or_insert_with(Self::default).add(&key, value);
            }
            if group.contains(&For::All) {
                all.add(&key, value);
            }
        }
        ours.unwrap_or(all)
    }

    fn add(&mut self, key: &str, value: &str) {
        let allows = match key {
            "allow" => true,
            "disallow" => false,
            "crawl-delay" => {
                let seconds = value.parse::<f64>().ok().filter(|delay| delay.is_finite());
                let delay = seconds.and_then(|delay| Duration::try_from_secs_f64(delay).ok());
                self.delay = self.delay.max(delay);
                return;
            }
            _ => return,
        };
        if !value.is_empty() && self.rules.len() < RULES_MAX {
            self.rules.push(Rule { allows, pattern: value.to_owned() });
        }
    }

    /// Whether `url` may be read: the longest rule that fits says so, and of two as long the kinder.
    pub(super) fn allow(&self, url: &Url) -> bool {
        let mut path = url.path().to_owned();
        if let Some(query) = url.query() {
            path.push('?');
            path.push_str(query);
        }
        let fits = self.rules.iter().filter(|rule| rule.fits(&path));
        fits.max_by_key(|rule| (rule.pattern.len(), rule.allows)).is_none_or(|rule| rule.allows)
    }
}

fn whom(name: &str) -> For {
    let token = name.split(['/', ' ']).next().unwrap_or_default();
    match token {
        "*" => For::All,
        token if token.eq_ignore_ascii_case(NAME) => For::Us,
        _ => For::Others,
    }
}

impl Rule {
    fn fits(&self, path: &str) -> bool {
        let (pattern, to_end) = match self.pattern.strip_suffix('$') {
            Some(pattern) => (pattern, true),
            None => (&*self.pattern, false),
        };
        let mut parts = pattern.split('*');
        let Some(mut rest) = path.strip_prefix(parts.next().unwrap_or_default()) else {
            return false;
        };
        let mut parts = parts.peekable();
        let has_star = parts.peek().is_some();
        while let Some(part) = parts.next() {
            if to_end && parts.peek().is_none() {
                return rest.ends_with(part);
            }
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        has_star || !to_end || rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(text: &str, path: &str) -> bool {
        Rules::parse(text).allow(&format!("http://host{path}").parse().unwrap())
    }

    #[test]
    fn the_longest_rule_says_it() {
        let text = "User-agent: *\nDisallow: /a\nAllow: /a/b # yes\nDisallow: /*.pdf$\nDisallow: /q?x=\nDisallow:";
        let cases = [
            ("/", true),
            ("/a", false),
            ("/abc", false),
            ("/a/b/c", true),
            ("/a/c", false),
            ("/x.pdf", false),
            ("/x.pdf2", true),
            ("/q?x=1", false),
            ("/q?y=1", true),
        ];
        for (path, expected) in cases {
            assert_eq!(allows(text, path), expected, "{path}");
        }
    }

    #[test]
    fn our_own_group_goes_before_that_for_all() {
        let text = "User-agent: *\nDisallow: /\n\nuser-agent: other\nUSER-AGENT: Kapelle/1.0\n\
            Disallow: /private\nCrawl-delay: 0.5\n";
        assert!(allows(text, "/open"));
        assert!(!allows(text, "/private/1"));
        assert_eq!(Rules::parse(text).delay, Some(Duration::from_millis(500)));
        assert!(!allows("User-agent: kapellen\nAllow: /\nUser-agent: *\nDisallow: /", "/x"));
        // An empty group of our own lets us everywhere.
        assert!(allows("User-agent: *\nDisallow: /\nUser-agent: kapelle\nDisallow:", "/x"));
    }

    #[test]
    fn what_is_no_rule_is_passed_over() {
        assert!(allows("<html>not found</html>", "/x"));
        assert!(allows("Disallow: /", "/x"));
        assert!(allows("User-agent: *\nDisallow: /**a*$", "/x"));
        assert!(allows("User-agent: *\nCrawl-delay: -1\nCrawl-delay: 1e999", "/x"));
        let many = format!("User-agent: *\nDisallow: /{}", "*a".repeat(100_000));
        assert!(allows(&many, "/aaaa"));
    }
}
