//! The router of this process as a transport: the same routes, without a socket.

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use kapelle_api::client::{self, BoxFuture, Transport, Unreachable};
use tower::ServiceExt as _;

/// A router that is called, not connected to.
pub(super) struct Local(Router);

impl Local {
    pub(super) fn new(router: Router) -> Self {
        Self(router)
    }
}

impl Transport for Local {
    fn server(&self) -> &str {
        "this process"
    }

    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'_, Result<http::Response<client::Body>, Unreachable>> {
        let router = self.0.clone();
        Box::pin(async move {
            let answered = router.oneshot(request.map(Body::from)).await;
            let response = answered.unwrap_or_else(|never| match never {});
            Ok(response.map(|body| {
                let broken = |error: axum::Error| Unreachable {
                    hint: "this process has ended it",
                    server: "this process".to_owned(),
                    message: error.to_string(),
                    is_unsent: false,
                };
                body.into_data_stream().map_err(broken).boxed()
            }))
        })
    }
}
