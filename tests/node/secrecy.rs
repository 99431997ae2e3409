//! What a node writes into its log, and what its parts show of themselves, tells nothing of what clients said.

use crate::{Cluster, node, pause, simulate};
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECRET: &[u8] = b"correct horse battery staple";

/// Keeps all that is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the secret can be read out of `text`: as it is, as numbers, or in hexadecimal.
fn tells(text: &str) -> bool {
    let numbers = SECRET.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let hexadecimal = SECRET.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let lower = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    lower.contains(&*String::from_utf8_lossy(SECRET))
        || lower.contains(&numbers)
        || lower.contains(&hexadecimal)
}

// scenario S9
#[test]
fn neither_logs_nor_debug_output_show_what_clients_said() {
    assert!(tells(&format!("{SECRET:?}")) && tells(&format!("{:#?}", bytes::Bytes::from_static(SECRET))));
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _here = crate::listen(subscriber);
    let shown = simulate(async {
        let mut cluster = Cluster::tuned(3, |config| config.snapshot_log_bytes = 4000).await;
        let follower = cluster.follower().await;
        let session = cluster.handle(follower).open_session().await.unwrap();
        session.propose((1, SECRET.to_vec())).await.unwrap();
        for number in 2..=200 {
            let asked = if number % 2 == 0 { follower } else { cluster.leader().await };
            cluster.handle(asked).propose((number, SECRET.to_vec())).await.unwrap();
        }
        cluster.handle(follower).snapshot().await.unwrap();
        cluster.kill(follower).await;
        cluster.restart(follower).await;
        cluster.join(4).await;
        let joins = cluster.handle(4).with_deadline(Duration::from_secs(30));
        joins.join_as(synod::MemberKind::Observer).await.unwrap();
        let leader = cluster.leader().await;
        let target = (1..=3).find(|other| *other != leader).unwrap();
        cluster.handle(leader).transfer(Some(node(target))).await.unwrap();
        pause(Duration::from_secs(5)).await;
        let mut shown = format!("{session:?} {:?}", cluster.hub);
        for (number, running) in &cluster.nodes {
            let (handle, storage) = (running.handle(), &cluster.storages[number]);
            let status = handle.status().await.unwrap();
            assert!(status.snapshot.is_some(), "node {number} has a snapshot: {status:?}");
            write!(shown, "{running:?} {handle:?} {status:?} {storage:?} {storage:#?}").unwrap();
        }
        shown
    });
    assert!(!tells(&shown), "{shown}");
    let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("leads") && logged.lines().count() > 20, "{logged}");
    assert!(!tells(&logged), "{logged}");
}
