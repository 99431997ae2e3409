//! Services: what runs on a node's arbiter for as long as the node does.

use crate::{Ledger, config, entry, membership, pause, simulate};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use synod::{Builder, Handle, Host, MemoryStorage, Node, NodeId, StartError, Timer};
use synod_channel::ChannelHub;

fn builder() -> Builder<Ledger> {
    early().state_machine(Ledger::default)
}

fn early() -> Builder<()> {
    Node::bootstrap(config(1), membership(1))
        .transport(ChannelHub::new().transport(NodeId::new(1)))
        .storage(MemoryStorage::with_seed(1))
        .host(Host::ThisArbiter)
        .seed(1)
}

/// Counts itself out when dropped.
struct Present(Arc<AtomicUsize>);

impl Present {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Adds a number every second.
async fn add(handle: Handle<Ledger>, timer: Arc<dyn Timer>) {
    for number in 1.. {
        timer.sleep_until(timer.now() + Duration::from_secs(1)).await;
        if handle.propose(entry(number)).await.is_err() {
            return;
        }
    }
}

#[test]
fn a_service_proposes_on_the_node_s_clock_until_the_node_stops() {
    simulate(async {
        let count = Arc::new(AtomicUsize::new(0));
        let present = Arc::clone(&count);
        let node = builder()
            .service(add)
            .service(move |handle, timer| async move {
                let _present = Present::new(&present);
                // Need not be `Send`.
                let _local = Rc::new(());
                add(handle, timer).await;
                std::future::pending().await
            })
            .start()
            .await
            .unwrap();
        pause(Duration::from_millis(5500)).await;
        let numbers = node.handle().read(Ledger::numbers).await.unwrap();
        assert_eq!(numbers, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        let handle = node.handle();
        drop(node);
        handle.stopped().await;
        pause(Duration::from_millis(1)).await;
        assert_eq!(count.load(Ordering::SeqCst), 0, "it would never have ended by itself");
    });
}

#[test]
fn a_service_that_panics_is_gone_and_the_node_and_the_others_go_on() {
    simulate(async {
        let node = builder()
            .service(|_, _| async { std::panic::resume_unwind(Box::new("in its course")) })
            .service(|_, _| -> std::future::Ready<()> { std::panic::resume_unwind(Box::new("at once")) })
            .service(add)
            .start()
            .await
            .unwrap();
        pause(Duration::from_millis(3500)).await;
        assert_eq!(node.handle().read(Ledger::numbers).await.unwrap(), [1, 2, 3]);
        node.shutdown().await.unwrap();
    });
}

#[test]
fn on_a_thread_of_the_node_s_own_services_run_there_and_are_dropped_with_it() {
    let count = Arc::new(AtomicUsize::new(0));
    let present = Arc::clone(&count);
    let (told, thread) = mpsc::channel();
    let start = builder().host(Host::OwnThread).service(move |_, _| async move {
        let _present = Present::new(&present);
        told.send(thread::current().name().map(str::to_owned)).unwrap();
        std::future::pending().await
    });
    futures::executor::block_on(async {
        let node = start.start().await.unwrap();
        assert_eq!(thread.recv().unwrap().as_deref(), Some("synod-1"));
        assert_eq!(count.load(Ordering::SeqCst), 1);
        node.shutdown().await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_seventeenth_service_and_one_before_the_state_machine_are_refused() {
    simulate(async {
        let mut full = builder();
        for _ in 0..16 {
            full = full.service(|_, _| async {});
        }
        let error = full.service(|_, _| async {}).start().await.unwrap_err();
        assert!(
            matches!(error, StartError::Config(error) if error.problem == "may be given at most 16 times")
        );
        let early = early().service(|_, _| async {}).state_machine(Ledger::default);
        let error = early.service(|_, _| async {}).start().await.unwrap_err();
        assert!(
            matches!(error, StartError::Config(error) if error.problem == "must be given after `state_machine` or `witness`")
        );
    });
}
