//! What calls cost: a table of data with its dates and sources, and sums in whole nano-dollars.
//!
//! **Invariant:** a model that is not in the table, or a call whose tokens nobody told, costs "unknown",
//! never nothing. No floats are added up; a part of a nano-dollar that a call costs is a whole one.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::Tokens;

/// The table that ships.
const SHIPPED: &str = include_str!("prices.json");
/// Pico-dollars a token in a dollar for a million tokens.
const PICOS: f64 = 1e6;
/// Pico-dollars in a nano-dollar.
const NANO: i128 = 1_000;

/// Prices by model and by the day from which on they hold.
#[derive(Clone, Debug)]
pub struct Prices(BTreeMap<Box<str>, Vec<Price>>);

/// A table of prices as a file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    unit: Box<str>,
    seen: Date,
    prices: Vec<Row>,
}

/// What a model costs, in dollars for a million tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The provider's name for it, without a date.
    pub model: Box<str>,
    /// The first day of the price; absent: always.
    #[serde(default)]
    pub from: Option<Date>,
    /// Who says so.
    pub source: Box<str>,
    /// What is read anew.
    pub input: f64,
    /// What is written.
    pub output: f64,
    /// What is read out of the provider's cache; a tenth of `input` unless told.
    #[serde(default)]
    pub cached: Option<f64>,
    /// For prompts that are longer than `tokens` all of the call costs this.
    #[serde(default)]
    pub over: Option<Over>,
}

/// The price of long prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Over {
    /// Longer than this.
    pub tokens: u64,
    /// What is read anew.
    pub input: f64,
    /// What is written.
    pub output: f64,
    /// What is read out of the provider's cache; the same part of `input` as for short prompts unless told.
    #[serde(default)]
    pub cached: Option<f64>,
}

impl Over {
    fn rates(&self, row: &Row) -> Result<Rates, String> {
        let part = row.cached.filter(|_| row.input > 0.0).map_or(0.1, |cached| cached / row.input);
        let cached = self.cached.unwrap_or_else(|| up(self.input * part));
        Rates::new(self.input, self.output, Some(cached)).map_err(|why| format!("`over`: {why}"))
    }
}

#[derive(Clone, Debug)]
struct Price {
    from: Date,
    rates: Rates,
    over: Option<(u64, Rates)>,
}

/// In pico-dollars a token.
#[derive(Clone, Copy, Debug)]
struct Rates {
    fresh: i64,
    cached: i64,
    stored: i64,
    stored_long: i64,
    written: i64,
}

impl Rates {
    fn new(input: f64, output: f64, cached: Option<f64>) -> Result<Self, String> {
        let fresh = picos("input", input)?;
        Ok(Self {
            fresh,
            cached: picos("cached", cached.unwrap_or_else(|| up(input * 0.1)))?,
            stored: picos("input", up(input * 1.25))?,
            stored_long: 2 * fresh,
            written: picos("output", output)?,
        })
    }

    fn cost(&self, tokens: &Tokens) -> Option<i64> {
        let parts = [
            (tokens.fresh, self.fresh),
            (tokens.cached, self.cached),
            (tokens.stored, self.stored),
            (tokens.stored_long, self.stored_long),
            (tokens.written, self.written),
        ];
        let picos: i128 =
            parts.into_iter().map(|(count, rate)| i128::from(count) * i128::from(rate)).sum();
        i64::try_from((picos + NANO - 1) / NANO).ok()
    }
}

/// A price that follows from another one: the next one up that can be told.
fn up(dollars: f64) -> f64 {
    (dollars * PICOS - 1e-4).ceil() / PICOS
}

#[expect(clippy::cast_possible_truncation, reason = "it is a small whole number")]
fn picos(what: &str, dollars: f64) -> Result<i64, String> {
    let exact = dollars * PICOS;
    let whole = exact.round();
    match () {
        () if dollars < 0.0 => Err(format!("`{what}` is less than nothing")),
        () if !(0.0..1e12).contains(&whole) => {
            Err(format!("`{what}` is no price below a million dollars a million"))
        }
        () if (exact - whole).abs() > 1e-4 => {
            Err(format!("`{what}` is finer than 0.000001 dollars a million"))
        }
        () => Ok(whole as i64),
    }
}

impl Prices {
    /// The table that ships.
    ///
    /// # Panics
    /// If it is broken: a test reads it.
    #[must_use]
    pub fn shipped() -> Self {
        let table: Table = serde_json::from_str(SHIPPED).expect("the table that ships is sound");
        assert_eq!(&*table.unit, "US dollars for a million tokens");
        assert!(table.seen.year() >= 2026, "somebody looked");
        Self(BTreeMap::new()).with(table.prices).expect("its prices are sound")
    }

    /// The same with more rows. From the first day of those for a model on, they alone hold for it.
    pub fn with(mut self, rows: Vec<Row>) -> Result<Self, String> {
        let mut more: BTreeMap<Box<str>, Vec<Price>> = BTreeMap::new();
        for row in rows {
            let odd = |why: String| format!("the price of `{}`: {why}", row.model);
            let rates = Rates::new(row.input, row.output, row.cached).map_err(odd)?;
            let over = row.over.as_ref().map(|over| {
                let rates = over.rates(&row).map_err(odd)?;
                Ok::<_, String>((over.tokens, rates))
            });
            let price =
                Price { from: row.from.unwrap_or(Date::MIN), rates, over: over.transpose()? };
            let known = more.entry(row.model).or_default();
            // Of two for one day the last one counts.
            known.retain(|other| other.from != price.from);
            known.push(price);
        }
        for (model, mut prices) in more {
            prices.sort_by_key(|price| price.from);
            let known = self.0.entry(model).or_default();
            known.retain(|other| prices.first().is_none_or(|first| other.from < first.from));
            known.extend(prices);
        }
        Ok(self)
    }

    /// What a call cost, in nano-dollars.
    #[must_use]
    pub fn cost(&self, model: &str, tokens: &Tokens, day: Date) -> Option<i64> {
        if tokens.unknown {
            return None;
        }
        let price = self.price(model, day)?;
        let rates = match &price.over {
            Some((over, rates)) if tokens.read() > *over => rates,
            _ => &price.rates,
        };
        rates.cost(tokens)
    }

    fn price(&self, model: &str, day: Date) -> Option<&Price> {
        let of = self.0.get(model).or_else(|| self.0.get(undated(model)?))?;
        of.iter().rev().find(|price| price.from <= day)
    }
}

/// A model's name without the day of its release, as in `claude-haiku-4-5-20251001` and
/// `gpt-6-astra-2026-09-03`.
fn undated(model: &str) -> Option<&str> {
    [8, 10].into_iter().find_map(|len| {
        let (name, day) = model.split_at_checked(model.len().checked_sub(len)?)?;
        let is_day = day.bytes().all(|byte| byte.is_ascii_digit()) || day.parse::<Date>().is_ok();
        name.strip_suffix('-').filter(|_| is_day)
    })
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_call_costs_what_the_table_says_to_the_nano_dollar() {
        let prices = Prices::shipped();
        let tokens = Tokens {
            fresh: 10,
            cached: 1_000,
            stored: 100,
            stored_long: 1,
            written: 7,
            ..Tokens::default()
        };
        let cost = |model, day| prices.cost(model, &tokens, day);
        let today = date(2026, 11, 21);
        // 10 x 2000 + 1000 x 100 + 100 x 2500 + 4000 + 7 x 10000
        assert_eq!(cost("claude-sonnet-5-5", today), Some(444_000));
        assert_eq!(cost("claude-sonnet-5-5", date(2026, 10, 6)), Some(544_000));
        assert_eq!(cost("claude-haiku-4-5-20251001", today), cost("claude-haiku-4-5", today));
        assert_eq!(cost("gpt-6-astra-2026-09-03", today), cost("gpt-6-astra", today));
        assert!(cost("gpt-6-astra", today).is_some());
        assert_eq!(cost("some-model", today), None);
        assert_eq!(cost("claude-haiku-4-5-latest", today), None);
        let unknown = Tokens { unknown: true, ..tokens };
        assert_eq!(prices.cost("claude-sonnet-5-5", &unknown, today), None);
    }

    #[test]
    fn a_long_prompt_costs_more_on_all_of_the_call() {
        let cost = |fresh| {
            let tokens = Tokens { fresh, written: 1, ..Tokens::default() };
            Prices::shipped().cost("claude-haiku-5-5", &tokens, date(2026, 11, 21))
        };
        assert_eq!(cost(100_000), Some(100_000 * 100 + 500));
        assert_eq!(cost(100_001), Some(100_001 * 500 + 2_500));
        // Eight tenths of a thousandth of a dollar more are rounded up, never away.
        let stored = Tokens { stored: 1, ..Tokens::default() };
        let day = date(2026, 11, 21);
        assert_eq!(Prices::shipped().cost("gpt-5.4-mini", &stored, day), Some(938));
    }

    #[test]
    fn own_prices_win_and_odd_ones_are_refused() {
        let row = |text: &str| serde_json::from_str::<Row>(text).unwrap();
        let own = r#"{"model": "mine", "input": 0, "output": 0, "source": "my own machine"}"#;
        let dear = r#"{"model": "claude-opus-5", "input": 50, "output": 1, "source": "me"}"#;
        let prices = Prices::shipped().with(vec![row(own), row(dear)]).unwrap();
        let tokens = Tokens { fresh: 1, ..Tokens::default() };
        let today = date(2026, 11, 21);
        assert_eq!(prices.cost("mine", &tokens, today), Some(0));
        assert_eq!(prices.cost("claude-opus-5", &tokens, today), Some(50_000));
        // Whatever days the table that ships knows.
        let sonnet = r#"{"model": "claude-sonnet-5-5", "input": 9, "output": 1, "source": "me"}"#;
        let later = sonnet.replace("\"input\"", "\"from\": \"2026-11-01\", \"input\"");
        let of = |rows| Prices::shipped().with(rows).unwrap();
        let cost = |prices: &Prices, day| prices.cost("claude-sonnet-5-5", &tokens, day);
        assert_eq!(cost(&of(vec![row(sonnet)]), today), Some(9_000));
        assert_eq!(cost(&of(vec![row(&later)]), today), Some(9_000));
        assert_eq!(cost(&of(vec![row(&later)]), date(2026, 10, 31)), Some(2_000));
        // What is told of the cache holds for long prompts too.
        let long = r#"{"model": "m", "input": 2, "output": 1, "cached": 1, "source": "me",
            "over": {"tokens": 10, "input": 6, "output": 1}}"#;
        let cached = Tokens { cached: 11, ..Tokens::default() };
        assert_eq!(of(vec![row(long)]).cost("m", &cached, today), Some(33_000));
        // Less than a nano-dollar a token, and none of it is lost.
        let flash = r#"{"model": "m", "input": 0.075, "output": 0.0003, "source": "me"}"#;
        let flash = of(vec![row(flash)]);
        let cost = |tokens| flash.cost("m", &tokens, today);
        assert_eq!(cost(Tokens { fresh: 4, cached: 2, ..Tokens::default() }), Some(300 + 15));
        assert_eq!(cost(Tokens { written: 1, ..Tokens::default() }), Some(1));
        assert_eq!(cost(Tokens { written: 1_000, ..Tokens::default() }), Some(300));
        let error = |input: &str| {
            let odd =
                format!(r#"{{"model": "odd", "input": {input}, "output": 1, "source": "me"}}"#);
            Prices::shipped().with(vec![row(&odd)]).unwrap_err()
        };
        assert_eq!(error("-1"), "the price of `odd`: `input` is less than nothing");
        assert!(error("0.0000001").ends_with("`input` is finer than 0.000001 dollars a million"));
        assert!(error("1e7").contains("`input` is no price below"));
    }
}
