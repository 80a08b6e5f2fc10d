//! The filters and tests of expressions.
//!
//! **Invariant:** all are pure, and each pays for what it is given and for what it makes, before it
//! makes it: a chain of filters cannot use more memory than the budget of one evaluation.

use std::sync::Arc;

use minijinja::functions::Function;
use minijinja::value::{FunctionArgs, FunctionResult, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters, tests};

use super::OUTPUT_MAX;
use super::value::{BUDGET, Budget, BudgetHandle, ITEM_BYTES, to_json};
use crate::Json;

/// The filters, by name. `docs/workflows.md` explains each.
pub(crate) const FILTERS: [&str; 41] = [
    "abs",
    "bool",
    "capitalize",
    "default",
    "dictsort",
    "first",
    "flatten",
    "float",
    "fromjson",
    "groupby",
    "int",
    "items",
    "join",
    "keys",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "values",
    "zip",
];

/// The tests (`x is …`), by name.
pub(super) const TESTS: [&str; 20] = [
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "even",
    "ge",
    "gt",
    "in",
    "integer",
    "le",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
];

/// Gives the environment what the two lists name.
pub(super) fn add_to(environment: &mut Environment<'_>) {
    add(environment, "abs", filters::abs);
    add(environment, "bool", filters::bool);
    add(environment, "capitalize", filters::capitalize);
    add(environment, "default", filters::default);
    add(environment, "dictsort", filters::dictsort);
    add(environment, "first", filters::first);
    add(environment, "flatten", flatten);
    add(environment, "float", filters::float);
    add(environment, "fromjson", from_json);
    add(environment, "groupby", filters::groupby);
    add(environment, "int", filters::int);
    add(environment, "items", filters::items);
    add(environment, "join", join);
    add(environment, "keys", keys);
    add(environment, "last", filters::last);
    add(environment, "length", filters::length);
    add(environment, "lines", filters::lines);
    add(environment, "list", filters::list);
    add(environment, "lower", filters::lower);
    add(environment, "map", filters::map);
    add(environment, "max", filters::max);
    add(environment, "min", filters::min);
    add(environment, "reject", filters::reject);
    add(environment, "rejectattr", filters::rejectattr);
    add(environment, "replace", replace);
    add(environment, "reverse", filters::reverse);
    add(environment, "round", filters::round);
    add(environment, "select", filters::select);
    add(environment, "selectattr", filters::selectattr);
    add(environment, "sort", filters::sort);
    add(environment, "split", split);
    add(environment, "string", string);
    add(environment, "sum", filters::sum);
    add(environment, "title", filters::title);
    add(environment, "tojson", to_json_text);
    add(environment, "trim", filters::trim);
    add(environment, "truncate", truncate);
    add(environment, "unique", filters::unique);
    add(environment, "upper", filters::upper);
    add(environment, "values", values);
    add(environment, "zip", filters::zip);
    add_tests(environment);
}

fn add_tests(environment: &mut Environment<'_>) {
    environment.add_test("boolean", tests::is_boolean);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("divisibleby", tests::is_divisibleby);
    environment.add_test("endingwith", tests::is_endingwith);
    environment.add_test("eq", tests::is_eq);
    environment.add_test("even", tests::is_even);
    environment.add_test("ge", tests::is_ge);
    environment.add_test("gt", tests::is_gt);
    environment.add_test("in", tests::is_in);
    environment.add_test("integer", tests::is_integer);
    environment.add_test("le", tests::is_le);
    environment.add_test("lt", tests::is_lt);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("ne", tests::is_ne);
    environment.add_test("none", tests::is_none);
    environment.add_test("number", tests::is_number);
    environment.add_test("odd", tests::is_odd);
    environment.add_test("sequence", tests::is_sequence);
    environment.add_test("startingwith", tests::is_startingwith);
    environment.add_test("string", tests::is_string);
}

/// Adds a filter that pays for its arguments first.
fn add<F, Rv, Args>(environment: &mut Environment<'_>, name: &'static str, filter: F)
where
    F: Function<Rv, Args>,
    Rv: FunctionResult,
    Args: for<'a> FunctionArgs<'a>,
{
    let filter = Value::from_function(filter);
    let paying =
        move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            let args = args.into_values();
            let size = args.iter().map(size_of).fold(0, usize::saturating_add);
            pay(state, size)?;
            filter.call(state, &args)
        };
    environment.add_filter(name, paying);
}

fn size_of(value: &Value) -> usize {
    match value.as_str() {
        Some(text) => text.len(),
        None => value.len().unwrap_or(1).saturating_mul(ITEM_BYTES),
    }
}

fn budget(state: &State<'_, '_>) -> Option<Arc<Budget>> {
    let handle = state.lookup(BUDGET)?;
    handle.downcast_object_ref::<BudgetHandle>().map(|handle| handle.0.clone())
}

fn pay(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    match budget(state) {
        Some(budget) if budget.take(bytes) => Ok(()),
        _ => Err(wrong("too large")),
    }
}

fn wrong(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn json_of(state: &State<'_, '_>, value: &Value) -> Result<Json, Error> {
    let budget = budget(state).ok_or_else(|| wrong("too large"))?;
    let mut left = OUTPUT_MAX;
    let json = to_json(value, &budget, &mut left).map_err(|_| wrong("this value is not JSON"))?;
    pay(state, OUTPUT_MAX - left)?;
    Ok(json)
}

/// What stands for `value` in a text.
fn text_of(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        pay(state, text.len())?;
        return Ok(text.to_owned());
    }
    Ok(match json_of(state, value)? {
        Json::Null => String::new(),
        json => json.to_string(),
    })
}

fn string(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    text_of(state, value)
}

fn to_json_text(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    let text = json_of(state, value)?.to_string();
    pay(state, text.len())?;
    Ok(text)
}

fn from_json(state: &State<'_, '_>, text: &str) -> Result<Value, Error> {
    // A value takes more memory than its text: `[0,0,…` about sixteen times as much.
    pay(state, text.len().saturating_mul(16))?;
    let json: Json =
        serde_json::from_str(text).map_err(|error| wrong(format!("this is not JSON: {error}")))?;
    let budget = budget(state).ok_or_else(|| wrong("too large"))?;
    Ok(super::value::root(&Arc::new(json), &budget))
}

fn join(state: &State<'_, '_>, list: &Value, between: Option<&str>) -> Result<String, Error> {
    let between = between.unwrap_or_default();
    let mut joined = String::new();
    for (index, item) in list_of(list, "join")?.enumerate() {
        if index > 0 {
            pay(state, between.len())?;
            joined.push_str(between);
        }
        joined.push_str(&text_of(state, &item)?);
    }
    Ok(joined)
}

fn list_of(value: &Value, filter: &str) -> Result<impl Iterator<Item = Value>, Error> {
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Err(wrong(format!("`{filter}` needs a list, and this is a {}", value.kind())));
    }
    value.try_iter()
}

fn replace(state: &State<'_, '_>, text: &str, from: &str, to: &str) -> Result<String, Error> {
    let more = text.matches(from).count().saturating_mul(to.len());
    pay(state, more)?;
    Ok(text.replace(from, to))
}

fn split(
    state: &State<'_, '_>,
    text: &str,
    at: Option<&str>,
    splits_max: Option<usize>,
) -> Result<Value, Error> {
    let limit = splits_max.map_or(usize::MAX, |most| most.saturating_add(1));
    let pieces: Box<dyn Iterator<Item = &str>> = match at {
        Some("") => return Err(wrong("`split` needs something to split at")),
        Some(at) => Box::new(text.splitn(limit, at)),
        None => Box::new(text.split_whitespace().take(limit)),
    };
    let mut list = Vec::new();
    for piece in pieces {
        pay(state, 4 * ITEM_BYTES)?;
        list.push(Value::from(piece));
    }
    Ok(Value::from(list))
}

fn truncate(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

fn flatten(state: &State<'_, '_>, list: &Value) -> Result<Value, Error> {
    let mut flat = Vec::new();
    for item in list_of(list, "flatten")? {
        if matches!(item.kind(), ValueKind::Seq | ValueKind::Iterable) {
            pay(state, size_of(&item))?;
            flat.extend(item.try_iter()?);
        } else {
            flat.push(item);
        }
    }
    Ok(Value::from(flat))
}

fn keys(map: &Value) -> Result<Value, Error> {
    if map.kind() != ValueKind::Map {
        return Err(wrong(format!("`keys` needs an object, and this is a {}", map.kind())));
    }
    Ok(Value::from(map.try_iter()?.collect::<Vec<_>>()))
}

fn values(map: &Value) -> Result<Value, Error> {
    if map.kind() != ValueKind::Map {
        return Err(wrong(format!("`values` needs an object, and this is a {}", map.kind())));
    }
    let values: Result<Vec<_>, _> = map.try_iter()?.map(|key| map.get_item(&key)).collect();
    Ok(Value::from(values?))
}
