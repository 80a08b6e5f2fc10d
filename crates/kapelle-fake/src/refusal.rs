//! An error as a provider answers it.

use serde_json::{Value, json};

use crate::script::Provider;

/// Why a request gets no answer.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// `type` in the body.
    pub(crate) kind: String,
    pub(crate) message: String,
    /// OpenAI's: the field it is about.
    pub(crate) param: Option<String>,
    /// OpenAI's, and Anthropic's `details.error_code`.
    pub(crate) code: Option<String>,
    /// How long to wait before the next one.
    pub(crate) retry_after_ms: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: u16, kind: &str, message: impl Into<String>) -> Self {
        let (kind, message) = (kind.to_owned(), message.into());
        Self { status, kind, message, param: None, code: None, retry_after_ms: None }
    }

    /// 400: the request is not in order.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    pub(crate) fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub(crate) fn code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    pub(crate) fn after_ms(mut self, wait_ms: u64) -> Self {
        self.retry_after_ms = Some(wait_ms);
        self
    }

    /// An error that has a status and nothing else to say.
    pub(crate) fn of_status(provider: Provider, status: u16) -> Self {
        let anthropic = provider.is_anthropic();
        let (kind, message) = match (status, anthropic) {
            (400, _) => ("invalid_request_error", "The request was invalid"),
            (401, true) => ("authentication_error", "invalid x-api-key"),
            (402, true) => ("billing_error", "Your credit balance is too low"),
            (403, true) => ("permission_error", "Your key may not use this"),
            (404, true) => ("not_found_error", "Not found"),
            (408 | 504, true) => ("timeout_error", "The request timed out"),
            (409, true) => ("conflict_error", "The request conflicts with another"),
            (413, true) => ("request_too_large", "Request exceeds the maximum size"),
            (429, true) => ("rate_limit_error", "Number of requests has exceeded your rate limit"),
            (529, true) => ("overloaded_error", "Overloaded"),
            (_, true) => ("api_error", "Internal server error"),
            (429, false) => ("requests", "Rate limit reached for requests"),
            (500.., false) => ("server_error", "The server had an error processing your request"),
            (_, false) => ("invalid_request_error", "The request was refused"),
        };
        let refusal = Self::new(status, kind, message);
        if status == 429 && !anthropic { refusal.code("rate_limit_exceeded") } else { refusal }
    }

    /// What a key that spent all it may gets.
    pub(crate) fn spent(provider: Provider) -> Self {
        match provider {
            Provider::Anthropic => {
                let message = "You have reached your spend limit for this month";
                Self::new(429, "rate_limit_error", message)
            }
            Provider::Openai => {
                let message = "You exceeded your current quota, please check your plan and billing";
                Self::new(429, "insufficient_quota", message).code("insufficient_quota")
            }
        }
    }

    pub(crate) fn body(&self, provider: Provider, request_id: &str) -> Value {
        match provider {
            Provider::Anthropic => {
                let mut error = json!({ "type": self.kind, "message": self.message });
                if let Some(code) = &self.code {
                    error["details"] = json!({ "error_code": code });
                }
                json!({ "type": "error", "error": error, "request_id": request_id })
            }
            Provider::Openai => json!({ "error": {
                "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
            } }),
        }
    }
}
