//! Serves health while the server starts, then hands over to the full router.
//!
//! One listener serves both, so that no connection is lost in between.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use hyper_util::service::TowerToHyperService;

use super::health::starting_response;
use super::health_registry::HealthRegistry;

/// Answers for the pages until there is a router. Clones share it.
#[derive(Debug, Clone)]
pub struct StartupGate {
    health: HealthRegistry,
    pages: Arc<OnceLock<Router>>,
}

impl StartupGate {
    /// A gate without a router, which reports only health.
    #[must_use]
    pub fn new(health: HealthRegistry) -> Self {
        Self {
            health,
            pages: Arc::default(),
        }
    }

    /// Passes all requests to `pages` from now on.
    pub fn set_router(&self, pages: Router) {
        // The first router stays.
        let _ = self.pages.set(pages);
    }

    /// The router to serve from the start.
    pub fn router(&self) -> Router {
        let door = self.clone();
        Router::new().fallback(move |request: Request| {
            let door = door.clone();
            async move { door.answer(request).await }
        })
    }

    async fn answer(&self, request: Request) -> Response {
        let Some(pages) = self.pages.get() else {
            return starting_response(&self.health, request.uri().path());
        };
        let pages = TowerToHyperService::new(pages.clone());
        hyper::service::Service::call(&pages, request)
            .await
            .unwrap_or_else(|never| match never {})
    }
}
