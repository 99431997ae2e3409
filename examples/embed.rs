//! Synod inside an actix-web application that was there before.
//!
//! ```text
//! cargo run --example embed
//! ```
//!
//! The application (`hello`, with a counter of its own) knows nothing of Synod. What was added to it:
//!
//! 1. [`Inventory`], a state machine: the state that shall survive, and the commands that change it.
//! 2. [`start_nodes`]: three nodes, each on a thread of its own, on one [`ChannelHub`], each with a directory. In production
//!    each of your servers would start *one* node, with a transport between machines such as `synod-tcp`.
//! 3. Two routes that call a [`Handle`]: `reserve` proposes, `stock` reads. A handle is `Clone + Send + Sync`, so it goes
//!    where the rest of the shared state goes: into `web::Data`.
//! 4. At the end, [`Node::shutdown`].
//!
//! `main` then asks its own server a few things, over HTTP, and says what it saw.

use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, HttpServer, Responder, get, post, web};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use synod::{
    ClusterId, Config, FileStorage, Handle, Membership, Node, NodeId, Position, ProposeError, RestoreError,
    Snapshot, SnapshotReader, StateMachine,
};
use synod_channel::ChannelHub;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

// ------------------------------------------------------------- the application as it was

#[derive(Default)]
struct Visits(AtomicU64);

#[get("/")]
async fn hello(visits: web::Data<Visits>) -> impl Responder {
    format!("hello, visitor {}", visits.0.fetch_add(1, Ordering::Relaxed) + 1)
}

// ------------------------------------------------------------- 1. the state machine

/// What is in stock: begins with ten of everything.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Inventory {
    reserved: BTreeMap<String, u32>,
}

const STOCK: u32 = 10;

#[derive(Serialize, Deserialize)]
struct Reserve {
    sku: String,
    count: u32,
}

#[derive(Serialize, Deserialize)]
enum Reserved {
    Done { left: u32 },
    SoldOut { left: u32 },
}

impl Inventory {
    fn left(&self, sku: &str) -> u32 {
        STOCK - self.reserved.get(sku).copied().unwrap_or(0)
    }
}

impl StateMachine for Inventory {
    type Command = Reserve;
    type Reply = Reserved;

    fn apply(&mut self, _at: Position, Reserve { sku, count }: Reserve) -> Reserved {
        let left = self.left(&sku);
        if count > left {
            return Reserved::SoldOut { left };
        }
        *self.reserved.entry(sku).or_insert(0) += count;
        Reserved::Done { left: left - count }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.clone())
    }

    fn restore(&mut self, mut snapshot: SnapshotReader<'_>) -> Result<(), RestoreError> {
        *self = snapshot.decode()?;
        Ok(())
    }
}

// ------------------------------------------------------------- 2. the nodes

async fn start_nodes(directory: &Path) -> Result<Vec<Node<Inventory>>, Box<dyn Error>> {
    let hub = ChannelHub::new();
    let members = [1, 2, 3].map(NodeId::new);
    let membership = Membership::voters(members.map(|member| (member, "")))?;
    let mut nodes = Vec::new();
    for member in members {
        let config = Config::new(ClusterId::new("embed")?, member);
        let node = Node::bootstrap(config, membership.clone())
            .transport(hub.transport(member))
            .storage(FileStorage::at(directory.join(member.to_string())))
            .state_machine(Inventory::default)
            .start()
            .await?;
        nodes.push(node);
    }
    Ok(nodes)
}

// ------------------------------------------------------------- 3. the routes

#[post("/reserve/{sku}/{count}")]
async fn reserve(inventory: web::Data<Handle<Inventory>>, path: web::Path<(String, u32)>) -> HttpResponse {
    let (sku, count) = path.into_inner();
    match inventory.propose(Reserve { sku, count }).await {
        Ok(Reserved::Done { left }) => HttpResponse::Ok().body(format!("reserved, {left} left")),
        Ok(Reserved::SoldOut { left }) => HttpResponse::Conflict().body(format!("only {left} left")),
        Err(error) => HttpResponse::build(status(&error)).body(error.to_string()),
    }
}

#[get("/stock/{sku}")]
async fn stock(inventory: web::Data<Handle<Inventory>>, sku: web::Path<String>) -> HttpResponse {
    match inventory.read(move |inventory| inventory.left(&sku)).await {
        Ok(left) => HttpResponse::Ok().body(format!("{left} left")),
        Err(error) => HttpResponse::ServiceUnavailable().body(error.to_string()),
    }
}

/// What a failed call is in HTTP's words. Only after `503` is it certain that nothing was reserved.
fn status(error: &ProposeError) -> StatusCode {
    match error {
        ProposeError::NotLeader { .. } | ProposeError::Busy => StatusCode::SERVICE_UNAVAILABLE,
        ProposeError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        ProposeError::Unknown { .. } => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

// ------------------------------------------------------------- all together

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let nodes = start_nodes(directory.path()).await?;

    let visits = web::Data::new(Visits::default());
    // Any node will do: one that does not lead forwards.
    let inventory = web::Data::new(nodes[2].handle());
    let server = HttpServer::new(move || {
        App::new()
            .app_data(visits.clone())
            .app_data(inventory.clone())
            .service(hello)
            .service(reserve)
            .service(stock)
    })
    .workers(1)
    .bind(("127.0.0.1", 0))?;
    let address = server.addrs()[0];
    let server = server.run();
    let stop = server.handle();
    let serving = actix_web::rt::spawn(server);

    for (method, path) in [
        ("GET", "/"),
        ("POST", "/reserve/lamp/3"),
        ("POST", "/reserve/lamp/4"),
        ("POST", "/reserve/lamp/4"),
        ("GET", "/stock/lamp"),
        ("GET", "/"),
    ] {
        println!("{method:4} {path:16} {}", ask(address, method, path).await?);
    }

    // 4. The server first, so that nobody calls a node that is gone.
    stop.stop(true).await;
    serving.await??;
    let count = nodes.len();
    for node in nodes {
        node.shutdown().await?;
    }
    println!("embed: {count} nodes served one actix-web application and were shut down in good order");
    Ok(())
}

/// One request over a connection of its own: the status and the body of the answer.
async fn ask(address: SocketAddr, method: &str, path: &str) -> Result<String, Box<dyn Error>> {
    let mut connection = tokio::net::TcpStream::connect(address).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    let status = answer.split_whitespace().nth(1).unwrap_or("no status");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(format!("{status} {body}"))
}
