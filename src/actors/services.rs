//! Services: what an application, or a part of this crate, has running for as long as its node does.
//!
//! Each is a task on the node's arbiter, from the start of the node until the node is over, and is dropped then.
//! Never does: rebuild a service. One that panics is gone, and the node goes on.

use crate::node::{Handle, StateMachine};
use crate::paxos::NodeId;
use crate::timer::Timer;
use futures::FutureExt;
use futures::future::{LocalBoxFuture, select};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

/// Begins a service.
pub(crate) type Service<S> = Box<dyn FnOnce(Handle<S>, Arc<dyn Timer>) -> LocalBoxFuture<'static, ()> + Send>;

/// Starts the services of a node that has started.
pub(super) fn serve<S: StateMachine>(
    node: NodeId,
    services: Vec<Service<S>>,
    handle: &Handle<S>,
    timer: &Arc<dyn Timer>,
) {
    for service in services {
        let (handle, timer) = (handle.clone(), Arc::clone(timer));
        actix_rt::spawn(async move {
            let over = handle.clone();
            let over = pin!(over.stopped());
            // Begun in here too, so that a panic at its very beginning is one of the service.
            let running = async move { service(handle, timer).await };
            let running = pin!(AssertUnwindSafe(running).catch_unwind());
            if let futures::future::Either::Left((Err(_), _)) = select(running, over).await {
                tracing::error!(%node, "a service is gone: it panicked");
            }
        });
    }
}
