//! What `request` is given, and the request made of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use kapelle_core::Json;
use kapelle_core::port::agent::{Call, Failure};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::egress::Request;
use crate::input::{invalid, read, scalar};

const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH", "OPTIONS"];
/// Headers that say how a message is carried, and those that we set.
const OURS: [&str; 14] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "idempotency-key",
    "kapelle-attempt",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "accept-encoding",
];

/// The input of `request`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    method: String,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, Json>,
    #[serde(default)]
    query: BTreeMap<String, Json>,
    body: Option<Json>,
    expect: Option<Vec<u16>>,
    /// Read by `on_unknown`.
    #[serde(default)]
    #[expect(dead_code, reason = "part of the input's shape; what it means is asked beforehand")]
    keyed: bool,
}

/// The JSON Schema of [`Input`].
pub(super) fn schema() -> Json {
    let scalars = json!(["string", "number", "boolean"]);
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["method", "url"],
        "properties": {
            "method": {"enum": METHODS},
            "url": {"description": "http or https, without credentials", "type": "string"},
            "headers": {"type": "object", "additionalProperties": {"type": scalars}},
            "query": {
                "description": "added to the URL; a list gives the name several times",
                "type": "object",
                "additionalProperties": {
                    "anyOf": [{"type": scalars}, {"type": "array", "items": {"type": scalars}}]
                }
            },
            "body": {"description": "a text, or a value that is sent as JSON"},
            "expect": {
                "description": "the statuses that are fine; 200 to 299 where nothing is said",
                "type": "array", "minItems": 1,
                "items": {"type": "integer", "minimum": 200, "maximum": 599}
            },
            "keyed": {
                "description": "the receiver takes the `Idempotency-Key`: repeating does no harm",
                "type": "boolean", "default": false
            }
        }
    })
}

impl Input {
    /// Reads the input.
    pub(super) fn read(input: &Json) -> Result<Self, Failure> {
        read(input)
    }

    /// Whether the step is content with `status`.
    pub(super) fn is_fine(&self, status: StatusCode) -> bool {
        self.expect.as_ref().map_or(status.is_success(), |fine| fine.contains(&status.as_u16()))
    }

    /// The request, with the call's key and attempt.
    pub(super) fn request(&self, call: &Call) -> Result<Request, Failure> {
        let method = METHODS.contains(&&*self.method).then(|| self.method.parse::<Method>().ok());
        let method = method.flatten().ok_or_else(|| {
            invalid("bad_input", format!("`{}` is none of {}", self.method, METHODS.join(", ")))
        })?;
        let mut headers = self.own_headers()?;
        let body = self.body.as_ref().map(|body| encode(body, &mut headers));
        let key = HeaderValue::from_str(&call.key)
            .map_err(|_| invalid("bad_input", "the call's key is no header value"))?;
        headers.insert("idempotency-key", key);
        headers.insert("kapelle-attempt", call.attempt.0.into());
        let keep = self.expect.iter().flatten().filter_map(|code| StatusCode::from_u16(*code).ok());
        Ok(Request { method, url: self.full_url()?, headers, body, keep: keep.collect() })
    }

    fn full_url(&self) -> Result<Url, Failure> {
        let mut url = Url::parse(&self.url)
            .map_err(|error| invalid("bad_url", format!("the URL is none: {error}")))?;
        for (name, value) in &self.query {
            let several =
                value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
            for one in several {
                let text = scalar(one).ok_or_else(|| bad(name, "is no text, number or boolean"))?;
                url.query_pairs_mut().append_pair(name, &text);
            }
        }
        Ok(url)
    }

    fn own_headers(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let header = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| bad(name, "is no header name"))?;
            if OURS.contains(&header.as_str()) {
                return Err(bad(name, "is set by kapelle"));
            }
            let text = scalar(value).ok_or_else(|| bad(name, "is no text, number or boolean"))?;
            // A line break would begin a header that nobody wrote.
            let value = HeaderValue::from_str(&text)
                .map_err(|_| bad(name, "holds what no header may hold"))?;
            if headers.insert(header, value).is_some() {
                return Err(bad(name, "is given twice"));
            }
        }
        Ok(headers)
    }
}

fn encode(body: &Json, headers: &mut HeaderMap) -> Bytes {
    let (bytes, media_type) = match body {
        Json::String(text) => (text.clone().into(), "text/plain; charset=utf-8"),
        json => (json.to_string().into(), "application/json"),
    };
    headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(media_type));
    bytes
}

fn bad(name: &str, why: &str) -> Failure {
    invalid("bad_input", format!("`{name}` {why}"))
}
