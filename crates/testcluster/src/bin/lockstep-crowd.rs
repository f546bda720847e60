//! Many agents in one process: real sessions, engines and results, each with threads of its own, for tests of scale.
//!
//! Told by the node of the tests, over the socket whose address is its only argument, in lines of JSON:
//! `{"id": 7, "environment": {...}}` starts a member with the variables of its container, `{"id": 7, "end": 143}` ends it.
//! It answers `{"id": 7, "code": 0}` when one has ended. It ends with the connection.

use anyhow::{Context, Result};
use lockstep_agent::log;
use lockstep_agent::session::{self, Access, Identity};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Stack of a member's control thread.
const STACK_BYTES: usize = 1 << 20;

/// Members that run: how to end them, and with which code they were.
type Members = Arc<Mutex<HashMap<u64, (Option<oneshot::Sender<()>>, Option<i64>)>>>;

/// How much less these processes count than others: on a cluster they are on machines of their own, and take no time from the
/// operator and the API server.
const NICE: i32 = 10;

fn main() -> Result<()> {
    rustix::process::setpriority_process(None, NICE).context("the priority")?;
    log::install(log::Format::Text);
    let address = std::env::args().nth(1).context("the address of the node")?;
    let stream = TcpStream::connect(&address).context(address)?;
    let answers = Arc::new(Mutex::new(stream.try_clone()?));
    let members = Members::default();
    for line in BufReader::new(stream).lines() {
        let order: Value = serde_json::from_str(&line?)?;
        let id = order["id"].as_u64().context("an id")?;
        if let Some(code) = order["end"].as_i64() {
            let mut members = members.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((end, ended)) = members.get_mut(&id) {
                ended.get_or_insert(code);
                // What was told before is told once more: nothing.
                let _ = end.take().map(|end| end.send(()));
            }
            continue;
        }
        let identity = identity(&order["environment"])?;
        let (end, ends) = oneshot::channel();
        members.lock().unwrap_or_else(PoisonError::into_inner).insert(id, (Some(end), None));
        let (answers, members) = (Arc::clone(&answers), Arc::clone(&members));
        std::thread::Builder::new().stack_size(STACK_BYTES).name("control".to_owned()).spawn(move || {
            let code = session::run(identity, ends).map_or(2, |ended| i64::from(ended.exit_code()));
            let told = members.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            let code = told.and_then(|(_, code)| code).unwrap_or(code);
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            // A node that is gone needs no answer.
            let _ = writeln!(answers, "{}", json!({"id": id, "code": code}));
        })?;
    }
    Ok(())
}

/// Who a member is: what the agent's own command line takes from the same variables.
fn identity(environment: &Value) -> Result<Identity> {
    let text = |name: &str| {
        let value = environment[format!("LOCKSTEP_{name}")].as_str();
        value.map(str::to_owned).with_context(|| format!("LOCKSTEP_{name}"))
    };
    Ok(Identity {
        coordinator: text("COORDINATOR")?,
        run: text("RUN")?,
        uid: text("RUN_UID")?,
        index: text("INDEX")?.parse()?,
        attempt: text("ATTEMPT")?.parse()?,
        cores: Vec::new(),
        access: Access::Cluster { token: text("TOKEN_FILE")?.into(), authorities: text("CA_FILE")?.into() },
        orphan_grace: Duration::from_millis(text("ORPHAN_GRACE_MS")?.parse()?),
    })
}
