//! What runs cost, and what they may.

use serde::{Deserialize, Serialize};

/// `POST /runs/{run}/budget`: so much more may be spent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Raise {
    /// By which step; absent: by all of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// So many more tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// So many more US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd: Option<f64>,
    /// So many more milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
    /// Who says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// `GET /runs/{run}/bill`: what a run has cost so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Bill {
    /// The run.
    pub run: String,
    /// All of it.
    pub total: Spending,
    /// Each step that has cost something, in the order of the plan.
    pub steps: Vec<StepSpending>,
    /// Each model that was asked, by name.
    pub models: Vec<ModelSpending>,
    /// What the run may spend, if there is a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Limit>,
    /// Milliseconds in which something ran or could, where that has a limit.
    #[serde(default, skip_serializing_if = "crate::is_zero")]
    pub active_ms: u64,
}

/// What something has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Spending {
    /// What recorded calls have used.
    pub spent: Amount,
    /// What calls that are under way may use at the most.
    pub reserved: Amount,
    /// What calls may have used of which nobody knows how they ended.
    pub unknown_outcome: Amount,
}

/// Tokens, money and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Amount {
    /// Tokens, read and written.
    pub tokens: u64,
    /// Nano-dollars (10⁻⁹ US dollars), as far as prices are known; null where none is.
    pub nano_usd: Option<i64>,
    /// Calls whose price nobody knows: they are not in `nano_usd`.
    pub unpriced_calls: u32,
    /// Milliseconds that calls took.
    #[serde(default, skip_serializing_if = "crate::is_zero")]
    pub time_ms: u64,
}

/// Nothing, which costs nothing.
impl Default for Amount {
    fn default() -> Self {
        Self { tokens: 0, nano_usd: Some(0), unpriced_calls: 0, time_ms: 0 }
    }
}

/// What a step has cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StepSpending {
    /// Its id.
    pub step: String,
    /// What it has cost.
    #[serde(flatten)]
    pub cost: Spending,
    /// What it asked models.
    #[serde(flatten)]
    pub asked: Asked,
    /// Milliseconds of its attempts that are over, where that has a limit.
    #[serde(default, skip_serializing_if = "crate::is_zero")]
    pub worked_ms: u64,
    /// What it may spend, if there is a limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Limit>,
}

/// What a model was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelSpending {
    /// `provider/model`.
    pub model: String,
    /// By what.
    #[serde(flatten)]
    pub asked: Asked,
    /// Nano-dollars, as far as prices are known; null where none is.
    pub nano_usd: Option<i64>,
    /// Calls whose price nobody knows.
    pub unpriced_calls: u64,
}

/// Recorded calls of models, and the tokens that they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Asked {
    /// How many calls are recorded.
    pub calls: u64,
    /// Tokens read anew.
    pub fresh_tokens: u64,
    /// Tokens read out of the provider's cache.
    pub cached_tokens: u64,
    /// Tokens read anew and put into its cache.
    pub stored_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
}

impl Asked {
    /// All tokens that were read.
    #[must_use]
    pub const fn read_tokens(&self) -> u64 {
        self.fresh_tokens + self.cached_tokens + self.stored_tokens
    }
}

/// What may be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Limit {
    /// Tokens, what was granted later included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Nano-dollars, what was granted later included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nano_usd: Option<i64>,
    /// Milliseconds, what was granted later included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
}

/// `GET /budgets`: how the limits of all runs together stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Budgets {
    /// Each account that has a limit.
    pub accounts: Vec<Account>,
}

/// What may be spent in all runs together, and what is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Account {
    /// `tenant`, or `agent NAME`.
    pub account: String,
    /// `day`, `month` or `ever`.
    pub per: String,
    /// When what is spent counts no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// What may be spent in that time.
    pub limit: Limit,
    /// What calls have used, or may have used.
    pub spent: Amount,
    /// What calls that are under way may use at the most.
    pub reserved: Amount,
    /// What is left.
    pub left: Limit,
}
