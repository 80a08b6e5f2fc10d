//! References that need no engine: `steps.a.output`, `inputs.files`, `item.path`.
//!
//! **Invariant:** what is found here is what the engine would give. Where nothing is found the engine
//! is asked: it knows the errors, and all that is more than a name and its members.

use std::borrow::Cow;

use super::{SOURCE_MAX, Scope, scan};
use crate::Json;

/// What the language takes for something else than a name.
const RESERVED: [&str; 7] = ["true", "True", "false", "False", "none", "None", "not"];

/// Whether `source` is a plain reference, as far as that can be seen without a scope.
pub(super) fn is_plain(source: &str) -> bool {
    let source = source.trim_ascii();
    source.len() <= SOURCE_MAX
        && !RESERVED.contains(&source)
        && source.split('.').all(|name| !name.is_empty() && name.bytes().all(scan::is_id))
}

/// What `source` stands for, if it is a plain reference to something that is there.
pub(super) fn find<'a>(source: &str, scope: &'a Scope) -> Option<Cow<'a, Json>> {
    if !is_plain(source) {
        return None;
    }
    let mut names = source.trim_ascii().split('.');
    let root = root(&mut names, scope)?;
    let mut members = names.peekable();
    if members.peek().is_none() {
        return Some(root);
    }
    let Cow::Borrowed(mut json) = root else { return None };
    for name in members {
        let is_name =
            !name.contains('-') && !name.starts_with(|first: char| first.is_ascii_digit());
        json = json.as_object().filter(|_| is_name)?.get(name)?;
    }
    Some(Cow::Borrowed(json))
}

/// What the first names stand for.
fn root<'a, 'n>(
    names: &mut impl Iterator<Item = &'n str>,
    scope: &'a Scope,
) -> Option<Cow<'a, Json>> {
    Some(match names.next()? {
        "inputs" => Cow::Borrowed(match names.next() {
            Some(name) => scope.inputs.get(name)?,
            None => &scope.inputs,
        }),
        "steps" => {
            let step = scope.steps.get(names.next()?)?;
            match names.next()? {
                "output" => Cow::Borrowed(&step.output),
                "status" => Cow::Owned(step.status.into()),
                "error" => {
                    step.error.as_ref().map_or(Cow::Owned(Json::Null), |error| Cow::Borrowed(error))
                }
                _ => return None,
            }
        }
        "run" => Cow::Borrowed(&scope.run),
        "index" => Cow::Owned(scope.item.as_ref()?.2.into()),
        name => {
            let (item, value, _) = scope.item.as_ref()?;
            Cow::Borrowed(Some(value).filter(|_| name == "item" || *name == **item)?)
        }
    })
}
