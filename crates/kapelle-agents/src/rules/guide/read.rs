//! A guide of a page that is not read yet: read by `web`, and then worked on as any other.
//!
//! **Invariant:** reading is the effect that `web` makes of it: what was read once is not fetched
//! again. Everything else is an agent that works by rules.

use async_trait::async_trait;
use kapelle_core::port::agent::{Agent, Answer, Call, Card, Desk, Failure};
use serde_json::json;

use super::Input;
use crate::rules::Rules;
use crate::{Web, input};

/// The agent.
pub(crate) struct Guide {
    pub(super) rules: Rules,
    pub(super) web: Web,
}

#[async_trait]
impl Agent for Guide {
    fn card(&self) -> &Card {
        self.rules.card()
    }

    fn is_one_service(&self) -> bool {
        false
    }

    async fn perform(&self, mut call: Call, desk: &dyn Desk) -> Result<Answer, Failure> {
        self.rules.verb(&call.action)?;
        let input: Input = input::read(&call.input)?;
        let given = [input.text.is_some(), input.markdown.is_some(), input.document.is_some()];
        if let (Some(url), [false, false, false]) = (input.url, given) {
            let read = Call { action: "read".into(), input: json!({ "url": url }), ..call.clone() };
            let page = self.web.perform(read, desk).await?.value;
            call.input = json!({ "document": page });
            if let Some(task) = input.task {
                call.input["task"] = task.into();
            }
            if let Some(engine) = input.engine {
                call.input["engine"] = json!(engine);
            }
        }
        self.rules.perform(call, desk).await
    }
}
