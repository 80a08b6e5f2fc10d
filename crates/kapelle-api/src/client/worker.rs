//! A client's calls about agents whose work others do.

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{Client, Error, escape};
use crate::{
    Agent, AgentPatch, AgentsQuery, Alert, Assignment, Beat, Completion, Heard, NewAgent,
    NewEffect, NewFailure, Page, Recorded, Settled, WorkQuery,
};

impl Client {
    /// `GET /agents`: those of whom all that `query` says holds.
    pub async fn agents_by(&self, query: &AgentsQuery) -> Result<Page<Agent>, Error> {
        let fields = [
            ("domain", &query.domain),
            ("capability", &query.capability),
            ("health", &query.health),
        ];
        let given = fields.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let query: Vec<_> =
            given.map(|(name, value)| format!("{name}={}", escape(value))).collect();
        self.get(&format!("/agents?{}", query.join("&"))).await
    }

    /// `GET /alerts`
    pub async fn alerts(&self) -> Result<Page<Alert>, Error> {
        self.get("/alerts").await
    }

    /// `POST /agents`
    pub async fn register_agent(&self, new: &NewAgent) -> Result<Agent, Error> {
        self.post("/agents", new).await
    }

    /// `PATCH /agents/{name}`
    pub async fn update_agent(&self, name: &str, patch: &AgentPatch) -> Result<Agent, Error> {
        let path = format!("/agents/{}", escape(name));
        let body = Bytes::from(serde_json::to_vec(patch).expect("requests are JSON"));
        let response = self.send(Method::PATCH, &path, "application/json", body).await?;
        self.read_json(response.into_body()).await
    }

    /// `DELETE /agents/{name}`
    pub async fn remove_agent(&self, name: &str) -> Result<(), Error> {
        let path = format!("/agents/{}", escape(name));
        self.send(Method::DELETE, &path, "application/json", Bytes::new()).await.map(drop)
    }

    /// `GET /agents/{name}/work`: something to do, or nothing for as long as was waited.
    pub async fn work(&self, name: &str, query: &WorkQuery) -> Result<Option<Assignment>, Error> {
        let wait = query
            .wait
            .as_deref()
            .map_or_else(String::new, |wait| format!("?wait={}", escape(wait)));
        let path = format!("/agents/{}/work{wait}", escape(name));
        let response = self.send(Method::GET, &path, "application/json", Bytes::new()).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        self.read_json(response.into_body()).await.map(Some)
    }

    /// `POST /attempts/{attempt}/heartbeat`
    pub async fn heartbeat(&self, attempt: &str, beat: &Beat) -> Result<Heard, Error> {
        self.post(&format!("/attempts/{}/heartbeat", escape(attempt)), beat).await
    }

    /// `POST /attempts/{attempt}/effects`
    pub async fn effect(&self, attempt: &str, effect: &NewEffect) -> Result<Recorded, Error> {
        self.post(&format!("/attempts/{}/effects", escape(attempt)), effect).await
    }

    /// `POST /attempts/{attempt}/complete`
    pub async fn complete(&self, attempt: &str, done: &Completion) -> Result<Settled, Error> {
        self.post(&format!("/attempts/{}/complete", escape(attempt)), done).await
    }

    /// `POST /attempts/{attempt}/fail`
    pub async fn fail(&self, attempt: &str, failure: &NewFailure) -> Result<Settled, Error> {
        self.post(&format!("/attempts/{}/fail", escape(attempt)), failure).await
    }
}
