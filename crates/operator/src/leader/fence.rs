//! A client of the API server that only a leader writes with.
//!
//! Asked at the last moment, for each single request, whatever made it: a process that was stopped in the middle of a round and
//! goes on after its time writes nothing more. What is on the wire already, resourceVersion and epoch refuse.

use super::election::Mandate;
use crate::admin::api;
use crate::admin::vitals::Vitals;
use http::{Method, Request};
use kube::client::Body;
use kube::{Client, Config};
use std::sync::Arc;
use tower::BoxError;
use tower::filter::FilterLayer;

/// This process may not write now.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this replica does not lead, or cannot renew its lease")]
pub struct NoMandate;

/// A client whose writes need the mandate; reads do not.
///
/// # Errors
/// When the certificates of the configuration are none.
pub fn client(config: Config, mandate: Mandate, vitals: Arc<Vitals>) -> Result<Client, kube::Error> {
    let fence = FilterLayer::new(move |request: Request<Body>| -> Result<Request<Body>, BoxError> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if reads || mandate.holds() { Ok(request) } else { Err(NoMandate.into()) }
    });
    Ok(api::builder(config, vitals)?.with_layer(&fence).build())
}
