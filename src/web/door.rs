//! The web before there is one: answers from the first moment on, and with the pages once they can be had.
//!
//! One server and one listener for both, so that nobody who just connects is lost between them.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use hyper_util::service::TowerToHyperService;

use super::health::{HealthBoard, while_starting};

/// What stands before the pages. Cloning it gives the same door.
#[derive(Debug, Clone)]
pub struct Door {
    health: HealthBoard,
    pages: Arc<OnceLock<Router>>,
}

impl Door {
    /// A closed one, that only tells of health.
    #[must_use]
    pub fn new(health: HealthBoard) -> Self {
        Self {
            health,
            pages: Arc::default(),
        }
    }

    /// Lets everybody to the pages from now on.
    pub fn open(&self, pages: Router) {
        // Opened twice it leads to the first.
        let _ = self.pages.set(pages);
    }

    /// What to serve.
    pub fn router(&self) -> Router {
        let door = self.clone();
        Router::new().fallback(move |request: Request| {
            let door = door.clone();
            async move { door.answer(request).await }
        })
    }

    async fn answer(&self, request: Request) -> Response {
        let Some(pages) = self.pages.get() else {
            return while_starting(&self.health, request.uri().path());
        };
        let pages = TowerToHyperService::new(pages.clone());
        hyper::service::Service::call(&pages, request)
            .await
            .unwrap_or_else(|never| match never {})
    }
}
