//! From a rule and a request to an answer, before it has the shape of a wire.

use serde_json::Value;

use crate::asked::{Calls, Thinking, tokens};
use crate::dice::Dice;
use crate::generate;
use crate::script::template::Names;
use crate::script::{Model, Part};
use crate::sign::Signer;

/// What the model says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) said: Vec<Said>,
    /// In Anthropic's words.
    pub(crate) stop: String,
    pub(crate) stop_sequence: Option<String>,
    /// Without thoughts.
    pub(crate) spoken_tokens: u64,
    pub(crate) thinking_tokens: u64,
}

/// One piece of what the model says.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    Text(String),
    Thought {
        text: String,
        signature: String,
    },
    /// The input as JSON, cut off if the tokens ran out.
    Call {
        id: String,
        name: String,
        input: String,
    },
    Block(Value),
}

/// What an answer is made of besides the request.
pub(crate) struct Making<'a> {
    pub(crate) parts: &'a [Part],
    pub(crate) stop: Option<&'a str>,
    pub(crate) violate: bool,
    pub(crate) names: Names<'a>,
    pub(crate) model: &'a Model,
    pub(crate) signer: &'a Signer,
    pub(crate) dice: Dice,
}

/// What a script makes the fake say although the request forbids it.
#[derive(Debug, thiserror::Error)]
#[error("the script's answer does not obey the schema of the request: {0}")]
pub(crate) struct Unfit(String);

impl Answer {
    pub(crate) fn output_tokens(&self) -> u64 {
        self.spoken_tokens + self.thinking_tokens
    }

    fn calls(&self) -> bool {
        self.said.iter().any(|said| matches!(said, Said::Call { .. }))
    }
}

impl Making<'_> {
    pub(crate) fn answer(&self) -> Result<Answer, Unfit> {
        let asked = self.names.asked;
        let echo = [Part { text: Some("{{user}}".to_owned()), ..Part::default() }];
        let parts = if self.parts.is_empty() { &echo } else { self.parts };
        let mut answer = Answer::default();
        for part in parts {
            if let Some(said) = self.said(part, &answer)? {
                answer.said.push(said);
            }
        }
        if let Some((name, schema)) = asked.forced.as_ref().filter(|_| !answer.calls()) {
            let input = generate::instance(schema, self.dice);
            answer.said.push(self.call(name, &input, &answer));
        }
        stopped(&mut answer, &asked.stops);
        let room = asked.output_max.min(self.model.window.saturating_sub(asked.prompt_tokens()));
        let cut = limited(&mut answer, room);
        answer.stop = match self.stop {
            _ if cut && room < asked.output_max => "model_context_window_exceeded".to_owned(),
            _ if cut => "max_tokens".to_owned(),
            Some(stop) => stop.to_owned(),
            None if answer.stop_sequence.is_some() => "stop_sequence".to_owned(),
            None if answer.calls() => "tool_use".to_owned(),
            None => "end_turn".to_owned(),
        };
        Ok(answer)
    }

    fn said(&self, part: &Part, so_far: &Answer) -> Result<Option<Said>, Unfit> {
        let asked = self.names.asked;
        if let Some(thought) = &part.thinking {
            return Ok(self.thought(&self.names.fill(thought)));
        }
        if let Some(tool) = &part.tool {
            let has_call = so_far.calls();
            if asked.calls == Calls::None || asked.calls == Calls::One && has_call {
                return Ok(None);
            }
            let input = self.names.fill_json(&Value::Object(tool.input.clone()));
            return Ok(Some(self.call(&tool.name, &input, so_far)));
        }
        if let Some(block) = &part.block {
            return Ok(Some(Said::Block(block.clone())));
        }
        let json = part.json.as_ref().map(|json| self.names.fill_json(json));
        let text = part.text.as_ref().map(|text| self.names.fill(text)).unwrap_or_default();
        self.text(json, text).map(|text| Some(Said::Text(text)))
    }

    fn call(&self, name: &str, input: &Value, so_far: &Answer) -> Said {
        let thought = so_far.said.iter().any(|said| matches!(said, Said::Thought { .. }));
        let prefix = if self.names.asked.provider.is_anthropic() { "toolu_" } else { "call_" };
        let id = self.signer.call(thought, self.names.n, so_far.said.len(), prefix);
        Said::Call { id, name: name.to_owned(), input: input.to_string() }
    }

    /// Words, or JSON as the request wants it.
    fn text(&self, json: Option<Value>, text: String) -> Result<String, Unfit> {
        let asked = self.names.asked;
        if self.violate {
            return Ok(json.map_or(text, |json| json.to_string()));
        }
        // Words before a call are no answer yet: the form is that of the answer.
        let before_call = self.parts.iter().any(|p| p.tool.is_some()) && asked.calls != Calls::None;
        match (asked.schema.as_ref().filter(|_| !before_call), json) {
            (Some(schema), Some(json)) => match fits(schema, &json) {
                Ok(()) => Ok(json.to_string()),
                Err(why) => Err(Unfit(why)),
            },
            // What is a fitting answer by itself is given; anything else is made up.
            (Some(schema), None) => match serde_json::from_str(&text) {
                Ok(json) if fits(schema, &json).is_ok() => Ok(text),
                _ => Ok(generate::instance(schema, self.dice).to_string()),
            },
            (None, Some(json)) => Ok(json.to_string()),
            (None, None)
                if asked.any_json
                    && !before_call
                    && serde_json::from_str::<Value>(&text).is_err() =>
            {
                Ok(serde_json::json!({ "answer": text }).to_string())
            }
            (None, None) => Ok(text),
        }
    }

    fn thought(&self, text: &str) -> Option<Said> {
        let asked = self.names.asked;
        let text = match asked.thinking {
            Thinking::Off => return None,
            Thinking::Shown => text,
            Thinking::Omitted => "",
        };
        let signature = self.signer.thought(&asked.model, &asked.opening, text);
        Some(Said::Thought { text: text.to_owned(), signature })
    }
}

fn fits(schema: &Value, json: &Value) -> Result<(), String> {
    let validator = jsonschema::validator_for(schema).map_err(|error| error.to_string())?;
    validator.validate(json).map_err(|error| error.to_string())
}

/// Ends the words where a sequence that stops them begins.
fn stopped(answer: &mut Answer, stops: &[String]) {
    for index in 0..answer.said.len() {
        let Said::Text(text) = &mut answer.said[index] else { continue };
        let first = stops.iter().filter_map(|stop| Some((text.find(stop.as_str())?, stop))).min();
        if let Some((at, stop)) = first {
            text.truncate(at);
            answer.stop_sequence = Some(stop.clone());
            answer.said.truncate(index + 1);
            return;
        }
    }
}

/// Cuts the answer where the tokens run out, and counts those it has. Whether it was cut.
fn limited(answer: &mut Answer, room: u64) -> bool {
    let mut left = room;
    for index in 0..answer.said.len() {
        let (text, is_thought) = match &mut answer.said[index] {
            Said::Text(text) => (text, false),
            Said::Thought { text, .. } => (text, true),
            Said::Call { input, .. } => (input, false),
            Said::Block(_) => continue,
        };
        let wanted = tokens(text).max(1);
        let used = wanted.min(left);
        if is_thought {
            answer.thinking_tokens += used;
        } else {
            answer.spoken_tokens += used;
        }
        left -= used;
        if used < wanted {
            let end = usize::try_from(used * 4).unwrap_or(usize::MAX);
            text.truncate(text.floor_char_boundary(end));
            answer.said.truncate(index + usize::from(used > 0));
            return true;
        }
    }
    false
}
