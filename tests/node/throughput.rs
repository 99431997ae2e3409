//! How fast the shell is, in this build: `cargo test --test node throughput -- --ignored --nocapture`.

use crate::{Cluster, entry};
use std::time::{Duration, Instant};

#[test]
#[ignore = "measures; run it by name"]
fn throughput_of_callers_at_once_on_one_arbiter() {
    for callers in [1, 64, 1024] {
        actix::System::new().block_on(async {
            let mut cluster = Cluster::start(3).await;
            let leader = cluster.handle(cluster.leader().await);
            let begun = Instant::now();
            let clients: Vec<_> = (0..callers)
                .map(|_| {
                    let leader = leader.clone();
                    actix_rt::spawn(async move {
                        let mut answered = 0_u64;
                        while begun.elapsed() < Duration::from_secs(3) {
                            leader.propose((answered, vec![7; 10])).await.unwrap();
                            answered += 1;
                        }
                        answered
                    })
                })
                .collect();
            let mut answered = 0;
            for client in clients {
                answered += client.await.unwrap();
            }
            let rate = answered as f64 / begun.elapsed().as_secs_f64();
            println!("{callers} callers: {rate:.0} commands/s");
            leader.propose(entry(0)).await.unwrap();
            assert!(leader.read_stale(|ledger| ledger.applied.len()).await.unwrap() as u64 > answered);
            for node in 1..=3 {
                cluster.kill(node).await;
            }
        });
    }
}
