//! The declarations that a page of XML may carry in its document type: `<!DOCTYPE html [ … ]>`.
//!
//! HTML knows none, and its parser takes the first `>` in them for their end; so they are cut out before.
//! What they declare is not looked at: pages need no entities of their own, and attackers do.

/// `html` in two parts that are a page together: without declarations, if there are any that end.
pub(super) fn undeclared(html: &str) -> (&str, &str) {
    declared(html).unwrap_or(("", html))
}

fn declared(html: &str) -> Option<(&str, &str)> {
    let page = behind_prolog(html);
    let kind = page.get(..9)?;
    if !kind.eq_ignore_ascii_case("<!doctype") {
        return None;
    }
    let begin = kind.len() + outside(&page[9..], ['[', '>'])?;
    let inner = page[begin..].strip_prefix('[')?;
    let end = outside(inner, [']', ']'])?;
    let rest = inner[end + 1..].trim_start().strip_prefix('>')?;
    Some(("<!DOCTYPE html>", rest))
}

/// What is behind white space, comments and instructions.
fn behind_prolog(html: &str) -> &str {
    let mut rest = html.trim_start_matches('\u{feff}').trim_start();
    loop {
        let end = match rest {
            _ if rest.starts_with("<?") => "?>",
            _ if rest.starts_with("<!--") => "-->",
            _ => return rest,
        };
        let Some((_, after)) = rest.split_once(end) else { return rest };
        rest = after.trim_start();
    }
}

/// Where the first of two signs is that stands in no quotation marks and no comment.
fn outside(text: &str, signs: [char; 2]) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let next = rest.find(['"', '\'', '<', signs[0], signs[1]])?;
        let found = &rest[next..];
        at += next;
        at += match found.as_bytes()[0] {
            quote @ (b'"' | b'\'') => 2 + found[1..].find(char::from(quote))?,
            b'<' if found.starts_with("<!--") => found.find("-->")? + 3,
            b'<' if found.starts_with("<?") => found.find("?>")? + 2,
            b'<' => 1,
            _ => return Some(at),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_cut_out_wherever_they_end() {
        let page = "<html><p>text ]> of it</p>";
        for declared in [
            "<!DOCTYPE html []>",
            "<?xml version='1.0'?>\n<!-- [ -->\n<!doctype html [ <!ENTITY a \"]>\"> ] >",
            "<!DOCTYPE html PUBLIC \"-//W3C//DTD [\" 'x>y' [<!ELEMENT p ANY><!-- ]> \" --><?x ]> ?>]>",
        ] {
            let html = format!("{declared}{page}");
            assert_eq!(undeclared(&html), ("<!DOCTYPE html>", page), "{declared}");
        }
        for html in [
            "<!DOCTYPE html><p>[x]>",
            "<!DOCTYPE html [ <p>it never ends",
            "<!DOCTYPE html [ \" ]><p>",
            "<!doctypé html []>",
            "<p><!DOCTYPE html []>",
            "",
        ] {
            assert_eq!(undeclared(html), ("", html));
        }
    }
}
