//! The long story: the life of a cluster, while clients write to it.

use super::load::Load;
use super::{Report, compared};
use crate::cli::say;
use crate::client::Client;
use crate::cluster::{Cluster, within};
use crate::failure::{Failure, told};
use crate::http::members::{ChangeBody, Kind};
use crate::table::Table;
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Nodes that come after the first: four to grow, one for a replaced machine, one for a wiped one.
const LATER: usize = 6;
/// How long the load runs undisturbed between two scenes.
const CALM: Duration = Duration::from_secs(1);

/// The story in figures: those of the short one, and its own.
#[derive(Debug, Serialize)]
pub(super) struct LongReport {
    #[serde(flatten)]
    pub(super) report: Report,
    /// Rows whose creation was refused, since an earlier try of it had created them.
    applied_twice: usize,
    /// Tries beyond the first; each might have been applied twice.
    retries: usize,
    /// The longest time without an acknowledgement, among all clients.
    longest_pause_ms: u64,
    membership_changes: usize,
    cuts: usize,
    restarts: usize,
    /// From the request until another node led.
    transfer_ms: u64,
    seconds: f64,
}

/// Tells the story.
pub(super) async fn story(table: &Table, directory: &Path) -> Result<LongReport, Failure> {
    if directory.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::Refused(format!(
            "{} is not empty; the long story begins with an empty directory",
            directory.display()
        )));
    }
    let client = Client::default();
    let load = Load::new(client.clone(), table);
    let cluster = Cluster::start(directory, 1, LATER, client.clone())?;
    let mut life = Life { cluster, client, load: &load, begin: Instant::now(), figures: Figures::default() };
    life.birth(directory).await?;
    let lived = async {
        let lived = life.live().await;
        load.finish();
        lived
    };
    tokio::try_join!(load.run(), lived)?;
    life.end().await
}

/// What the scenes measure.
#[derive(Default)]
struct Figures {
    failover: Duration,
    caught_up: Duration,
    transfer: Duration,
    membership_changes: usize,
    cuts: usize,
    restarts: usize,
}

struct Life<'a> {
    cluster: Cluster,
    client: Client,
    load: &'a Load<'a>,
    begin: Instant,
    figures: Figures,
}

impl Life<'_> {
    async fn live(&mut self) -> Result<(), Failure> {
        self.grow_to(3).await?;
        self.cut_the_logs().await?;
        self.grow_to(5).await?;
        self.replace_a_node().await?;
        self.cut_the_logs().await?;
        self.wipe_the_leader().await?;
        self.transfer_the_lead().await?;
        self.shrink_to(3).await?;
        self.cut_the_logs().await?;
        self.restart_all().await
    }

    async fn birth(&mut self, directory: &Path) -> Result<(), Failure> {
        within("the start of the first node", self.cluster.ready()).await?;
        self.load.move_to(self.cluster.addresses());
        self.tell(format_args!("Node 1 runs alone, with its directory below {}.", directory.display()));
        Ok(())
    }

    /// More nodes, one at a time.
    async fn grow_to(&mut self, size: usize) -> Result<(), Failure> {
        self.calm().await;
        let begin = Instant::now();
        let before = self.cluster.ids().len();
        while self.cluster.ids().len() < size {
            let node = self.cluster.join(&["serve", "--join"])?;
            let address = self.cluster.listen(node);
            self.change(ChangeBody::Add { id: node, address, kind: Kind::Voter }).await?;
        }
        self.tell(format_args!("Grown from {before} to {size} nodes within {} ms.", ms(begin.elapsed())));
        Ok(())
    }

    /// A snapshot on every node, and none of them keeps the log below.
    async fn cut_the_logs(&mut self) -> Result<(), Failure> {
        self.calm().await;
        let mut slots = Vec::new();
        for node in self.cluster.ids() {
            let snapshot = self.client.snapshot(self.cluster.http(node));
            slots.push(within("a snapshot", async { Ok(snapshot.await?) }).await?.slot.to_string());
        }
        self.figures.cuts += 1;
        self.tell(format_args!("Snapshots taken and logs cut, through slots {}.", slots.join(", ")));
        Ok(())
    }

    /// A machine is gone for good, and a new one takes its place.
    async fn replace_a_node(&mut self) -> Result<(), Failure> {
        self.calm().await;
        let leader = self.leader().await?;
        let lost = self.one_but(leader)?;
        self.cluster.kill(lost).await?;
        let node = self.cluster.join(&["serve", "--join"])?;
        let address = self.cluster.listen(node);
        self.cluster.forget(lost).await?;
        self.change(ChangeBody::Replace { lost, id: node, address }).await?;
        self.tell(format_args!(
            "SIGKILL for node {lost}, a follower; a new machine, node {node}, has taken its place."
        ));
        Ok(())
    }

    /// The leader loses its disk in the middle of everything. What it had promised is forgotten, so it never votes under its
    /// old id again: the machine comes back under a new one.
    async fn wipe_the_leader(&mut self) -> Result<(), Failure> {
        self.calm().await;
        let lost = self.leader().await?;
        let killed = self.cluster.kill(lost).await?;
        self.tell(format_args!("SIGKILL for node {lost}, the leader; its disk is lost with it."));
        self.figures.failover = within("the failover", self.load.recovery(killed)).await?;
        let leader = self.leader().await?;
        let failover = ms(self.figures.failover);
        self.tell(format_args!(
            "The first write sent after that was acknowledged {failover} ms later; node {leader} leads now."
        ));

        let begin = Instant::now();
        let node = self.cluster.join(&["recover", &format!("--lost={lost}")])?;
        self.cluster.forget(lost).await?;
        within("recovering", self.in_the_place_of(lost, node)).await?;
        self.cluster_changed();
        within("catching up", self.cluster.caught_up(node)).await?;
        self.figures.caught_up = begin.elapsed();
        let caught_up = ms(self.figures.caught_up);
        self.tell(format_args!(
            "The machine is recovered as node {node}: it has all again, and votes, within {caught_up} ms."
        ));
        Ok(())
    }

    /// Waits until the members have `node`, and not `lost`.
    async fn in_the_place_of(&mut self, lost: u64, node: u64) -> Result<(), Failure> {
        loop {
            let leader = self.cluster.leader().await?;
            if let Ok(members) = self.client.members(self.cluster.http(leader)).await {
                let has =
                    |id| members.members.iter().any(|member| member.id == id && member.kind == Kind::Voter);
                if has(node) && !has(lost) {
                    return Ok(());
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn transfer_the_lead(&mut self) -> Result<(), Failure> {
        self.calm().await;
        let leader = self.leader().await?;
        let to = self.one_but(leader)?;
        let begin = Instant::now();
        self.client.transfer(self.cluster.http(leader), Some(to)).await?;
        self.figures.transfer = begin.elapsed();
        let transfer = ms(self.figures.transfer);
        self.tell(format_args!("Node {leader} hands the lead over to node {to}, within {transfer} ms."));
        Ok(())
    }

    /// Nodes are removed: first one that follows, then the leader itself.
    async fn shrink_to(&mut self, size: usize) -> Result<(), Failure> {
        self.calm().await;
        let before = self.cluster.ids().len();
        while self.cluster.ids().len() > size {
            let leader = self.leader().await?;
            let last = self.cluster.ids().len() == size + 1;
            let node = if last { leader } else { self.one_but(leader)? };
            self.change(ChangeBody::Remove { id: node }).await?;
            within("the end of a removed node", self.cluster.forget(node)).await?;
            self.cluster_changed();
            let which = if last { "the leader" } else { "a follower" };
            self.tell(format_args!("Node {node}, {which}, is removed, and has stopped by itself."));
        }
        self.tell(format_args!("Shrunk from {before} to {size} nodes."));
        Ok(())
    }

    /// Each node in turn, as when a new version is rolled out; the leader last.
    async fn restart_all(&mut self) -> Result<(), Failure> {
        self.calm().await;
        let leader = self.leader().await?;
        let mut nodes = self.cluster.ids();
        nodes.sort_by_key(|node| *node == leader);
        let begin = Instant::now();
        for node in nodes {
            self.cluster.terminate(node).await?;
            self.cluster.spawn(node)?;
            within("catching up", self.cluster.caught_up(node)).await?;
            self.figures.restarts += 1;
        }
        let restarted = ms(begin.elapsed());
        self.tell(format_args!("Each node restarted, one after the other, within {restarted} ms."));
        self.calm().await;
        Ok(())
    }

    /// The clients are done: counts, and compares.
    async fn end(mut self) -> Result<LongReport, Failure> {
        let acknowledged = self.load.acknowledged();
        let writes_per_s = acknowledged as f64 / self.begin.elapsed().as_secs_f64();
        let digests = within("the comparison of digests", self.cluster.digests()).await?;
        let digests_equal = digests.windows(2).all(|pair| pair[0] == pair[1]);
        self.tell(compared(&digests, digests_equal));
        let lost = within("reading back", self.load.lost()).await?;
        let (twice, retries) = (self.load.applied_twice(), self.load.retries());
        let longest_pause_ms = ms(self.load.longest_pause());
        self.tell(format_args!("Read back: of {acknowledged} acknowledged writes, {lost} are lost."));
        self.tell(format_args!(
            "Of {retries} retries, {twice} were applied twice; the clients never waited longer than {longest_pause_ms} ms."
        ));
        let Figures { failover, caught_up, transfer, membership_changes, cuts, restarts } = self.figures;
        let report = Report {
            nodes: digests.len(),
            rows: acknowledged,
            acknowledged,
            lost,
            digests_equal,
            failover_ms: ms(failover),
            caught_up_ms: ms(caught_up),
            writes_per_s,
        };
        self.cluster.stop().await;
        Ok(LongReport {
            report,
            applied_twice: twice,
            retries,
            longest_pause_ms,
            membership_changes,
            cuts,
            restarts,
            transfer_ms: ms(transfer),
            seconds: self.begin.elapsed().as_secs_f64(),
        })
    }

    /// Asks for other members, until they are in force.
    async fn change(&mut self, change: ChangeBody) -> Result<(), Failure> {
        let change = async {
            loop {
                let leader = self.cluster.leader().await?;
                // Asked for again, a change goes on from where it is.
                match self.client.change(self.cluster.http(leader), &change).await {
                    Err(error) if error.may_pass() => sleep(Duration::from_millis(100)).await,
                    changed => return changed.map_err(|error| Failure::Failed(told(&error))),
                }
            }
        };
        within("a change of the members", change).await?;
        self.figures.membership_changes += 1;
        self.cluster_changed();
        Ok(())
    }

    /// The clients write to those that are there now.
    fn cluster_changed(&self) {
        self.load.move_to(self.cluster.addresses());
    }

    async fn leader(&mut self) -> Result<u64, Failure> {
        within("the search for the leader", self.cluster.leader()).await
    }

    /// The node with the highest id that is not this one.
    fn one_but(&self, other: u64) -> Result<u64, Failure> {
        let node = self.cluster.ids().into_iter().rev().find(|node| *node != other);
        node.ok_or_else(|| Failure::Failed("there is no other node".into()))
    }

    async fn calm(&self) {
        sleep(CALM).await;
    }

    fn tell(&self, line: impl std::fmt::Display) {
        say(format_args!("{:5.1} s  {line}", self.begin.elapsed().as_secs_f64()));
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
