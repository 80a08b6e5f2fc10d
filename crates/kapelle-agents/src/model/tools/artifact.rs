//! The tool that opens what other steps have left.

use async_trait::async_trait;
use kapelle_core::port::agent::{Call, Desk, Failure, FailureKind, Safety};
use kapelle_core::{Digest, Json};
use serde_json::json;

use super::super::tool::{Reach, Told, Tool, ToolCard};
use super::{LINES_MAX, numbered, object};

/// The longest artifact that is opened, in bytes.
const LEN_MAX: u64 = 8 << 20;

/// Opens artifacts of the tenant by their digests.
pub(super) struct Artifact(ToolCard);

impl Artifact {
    pub(super) fn new() -> Self {
        let properties = json!({
            "digest": {"type": "string", "description": "Of the artifact, as the input has it: `sha256:…`."},
            "from_line": {"type": "integer", "minimum": 1},
            "lines": {"type": "integer", "minimum": 1, "maximum": LINES_MAX},
        });
        Self(ToolCard {
            name: "open_artifact".into(),
            description:
                "Reads a text that another step has left; each line comes with its number.".into(),
            input: object(&properties, &["digest"]),
            reach: Reach::Reads,
            safety: Safety::Repeatable,
        })
    }
}

#[async_trait]
impl Tool for Artifact {
    fn card(&self) -> &ToolCard {
        &self.0
    }

    async fn call(
        &self,
        _: &Call,
        input: &Json,
        _: &str,
        desk: &dyn Desk,
    ) -> Result<Told, Failure> {
        let digest = input["digest"].as_str().unwrap_or_default();
        let Ok(digest) = digest.parse::<Digest>() else {
            return Ok(Told::badly(format!("`{digest}` is no digest such as `sha256:…`")));
        };
        match desk.get(digest, LEN_MAX).await {
            Ok(content) => Ok(match std::str::from_utf8(&content) {
                Ok(text) => Told::well(numbered(text, input)),
                Err(_) => Told::badly(format!("{digest} is no text")),
            }),
            Err(failure) if failure.kind == FailureKind::Invalid => {
                Ok(Told::badly(String::from(failure.message)))
            }
            Err(failure) => Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;
    use crate::desk::ScratchDesk;

    #[tokio::test]
    async fn what_a_step_has_left_is_read_by_its_digest() {
        let (tool, desk) = (Artifact::new(), ScratchDesk::new().unwrap());
        let call = contract::call("work", json!({}), "/");
        let mut digests = Vec::new();
        for content in [&b"one\ntwo\n"[..], b"\xff\xfe"] {
            let mut sink = desk.artifact("a.txt", "text/plain").await.unwrap();
            sink.write(content.into()).await.unwrap();
            digests.push(sink.finish().await.unwrap().digest.to_string());
        }
        let told = async |digest: &str| {
            let input = json!({"digest": digest, "from_line": 2});
            tool.call(&call, &input, "run/step/1/0", &desk).await.unwrap()
        };
        assert_eq!(told(&digests[0]).await, Told::well("2\ttwo\n"));
        assert!(told(&digests[1]).await.text.ends_with("is no text"));
        assert!(told(&Digest::of(b"none").to_string()).await.failed);
        assert!(told("report.md").await.failed);
    }
}
