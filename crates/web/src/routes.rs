//! Routes, each with what a request costs. There is no other way to add one.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;

use super::error::WebError;
use super::state::App;
use super::strangers::CostClass;
use super::viewer::Viewer;

/// Marks a response for which nothing was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct NothingRead;

/// What a request to a route costs.
#[derive(Debug, Clone, Copy)]
enum RouteCost {
    Always(CostClass),
    OfRequest(fn(&Request) -> CostClass),
}

/// Routes with their costs.
pub(super) struct Routes {
    app: Arc<App>,
    router: Router<Arc<App>>,
}

impl Routes {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self {
            app: app.clone(),
            router: Router::new(),
        }
    }

    pub(super) fn route(
        self,
        path: &str,
        cost: CostClass,
        handlers: MethodRouter<Arc<App>>,
    ) -> Self {
        let handlers = self.charged(RouteCost::Always(cost), handlers);
        Self {
            router: self.router.route(path, handlers),
            ..self
        }
    }

    /// All addresses that no route has.
    pub(super) fn fallback(
        self,
        cost: fn(&Request) -> CostClass,
        handlers: MethodRouter<Arc<App>>,
    ) -> Self {
        let handlers = self.charged(RouteCost::OfRequest(cost), handlers);
        Self {
            router: self
                .router
                .fallback_service(handlers.with_state(self.app.clone())),
            ..self
        }
    }

    fn charged(&self, cost: RouteCost, handlers: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
        handlers.layer(from_fn_with_state((self.app.clone(), cost), charge))
    }

    pub(super) fn into_router(self) -> Router<Arc<App>> {
        self.router
    }
}

/// Takes what the request costs from the budget of a stranger.
async fn charge(
    State((app, cost)): State<(Arc<App>, RouteCost)>,
    request: Request,
    next: Next,
) -> Response {
    let viewer = request.extensions().get::<Viewer>();
    let Some(viewer) = viewer.filter(|viewer| viewer.is_stranger) else {
        return next.run(request).await;
    };
    let cost = match cost {
        RouteCost::Always(cost) => cost,
        RouteCost::OfRequest(cost) => cost(&request),
    };
    let charge = match app.strangers.charge(viewer.address(), cost) {
        Ok(charge) => charge,
        Err(refused) => return WebError::from(refused).into_response(),
    };
    let response = next.run(request).await;
    // The page to sign in is the same for what is not shown and for what does not exist.
    let is_free = matches!(
        response.status(),
        StatusCode::NOT_MODIFIED | StatusCode::UNAUTHORIZED
    ) || response.extensions().get::<NothingRead>().is_some();
    if is_free {
        charge.refund();
    }
    response
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_route_is_added_without_a_cost() {
        let routes = include_str!("lib.rs");
        assert!(routes.contains("Routes::new(&app)"));
        for way in ["Router::new", "MethodRouter", ".fallback_service", ".nest"] {
            assert!(!routes.contains(way), "{way}");
        }
    }
}
