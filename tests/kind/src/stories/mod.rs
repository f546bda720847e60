//! The stories. Each stands in the file of its subject, and panics when something is not as it should be.

mod losses;
mod machines;
mod operators;
mod pages;
mod people;
mod policies;
mod releases;
mod starts;
mod storage;
mod trust;
mod volumes;

use crate::runner::{Story, When};
use lockstep_api::BenchmarkRun;
use lockstep_testcluster::runs::status;
use serde_json::{Value, json};

macro_rules! story {
    ($name:literal, $when:ident, $body:path, $shows:literal) => {
        Story { name: $name, when: When::$when, shows: $shows, tell: |suite| Box::pin($body(suite)) }
    };
}

/// The one that begins on a cluster without Lockstep.
pub const FIRST: Story = story!(
    "first-run",
    Alone,
    pages::quickstart,
    "from nothing to a finished first run in five minutes, by the commands of docs/quickstart.md"
);

/// The others, the longest of those that are told side by side first.
pub const STORIES: &[Story] = &[
    story!(
        "release-upgraded",
        Together,
        releases::upgraded,
        "helm install, test, upgrade, rollback and uninstall, with a run in flight"
    ),
    story!(
        "operator-deleted",
        Together,
        operators::deleted_in_each_phase,
        "the operator's pod is deleted in each phase of a run"
    ),
    story!(
        "release-reinstalled",
        Together,
        releases::reinstalled,
        "helm uninstall and install again with runs present"
    ),
    story!(
        "operator-restarted",
        Together,
        operators::restarted,
        "the operator is restarted with a run in flight"
    ),
    story!(
        "authority-changed",
        Together,
        operators::authority_changed,
        "the certificate authority changes under a run"
    ),
    story!(
        "two-operators",
        Together,
        trust::two_operators,
        "two operators in namespace scope, in restricted namespaces, without rights outside"
    ),
    story!("credentials", Together, trust::credentials, "credentials are seen by agents alone"),
    story!(
        "network-policies",
        Together,
        policies::network,
        "egress of agents is limited to operator, DNS and target"
    ),
    story!("watched", Together, people::watched, "kubectl wait, and kubectl lockstep watch on a terminal"),
    story!(
        "s3-by-service",
        Together,
        storage::s3,
        "S3 behind a Service: the report counts what the storage holds"
    ),
    story!("shared-volume", Together, volumes::shared, "files on a volume that agents share"),
    story!(
        "ephemeral-volumes",
        Together,
        volumes::ephemeral,
        "files on a generic ephemeral volume per agent"
    ),
    story!(
        "agent-deleted",
        Together,
        losses::deleted,
        "an agent's pod is deleted: replaced, and nothing is counted twice"
    ),
    story!("agent-evicted", Together, losses::evicted, "an agent's pod is evicted through the Eviction API"),
    story!(
        "agent-out-of-memory",
        Together,
        losses::out_of_memory,
        "agents are killed for a small memory limit"
    ),
    story!("image-missing", Together, losses::image_missing, "the image of the agents is missing"),
    story!("page-volumes", Alone, pages::volumes, "the commands of docs/pvc.md"),
    story!("page-objects", Alone, pages::objects, "the commands of docs/s3.md"),
    story!(
        "eight-together",
        Alone,
        starts::eight_together,
        "8 agents find the operator by DNS and start together"
    ),
    story!("node-drained", Alone, machines::drained, "a node with an agent is drained"),
    story!(
        "containerd-restarted",
        Alone,
        machines::containerd_restarted,
        "the container runtime is restarted under agents"
    ),
    story!("node-unplugged", Alone, machines::unplugged, "a node with an agent is gone from the network"),
    story!(
        "kubelet-stopped",
        Slow,
        machines::kubelet_stopped,
        "the kubelet under agents is stopped for 2 minutes"
    ),
    story!(
        "tokens-renewed",
        Slow,
        operators::tokens_renewed,
        "the agents' tokens are renewed in a run that outlives them"
    ),
];

/// What went wrong with agent, as a status tells it.
fn problems(run: &BenchmarkRun) -> String {
    let told = status(run).agent_problems.iter();
    let told: Vec<String> = told.map(|one| format!("{} {}", one.reason, one.message)).collect();
    format!("{} | {} | {}", status(run).phase, status(run).message, told.join(" | "))
}

/// Of agents: how many were lost, and how many replaced.
fn lost_and_replaced(run: &BenchmarkRun) -> (i64, i64) {
    status(run).agents.as_ref().map_or((0, 0), |agents| (agents.lost, agents.replaced))
}

/// A run on a target that prepares so many objects of 4 KiB, reads and writes them for some seconds, and leaves them there.
fn on_target(name: &str, target: &Value, objects: u32, seconds: u32, spec: &Value) -> Value {
    let mut run = lockstep_testcluster::runs::run(
        name,
        1_000,
        &json!({
            "target": target,
            "dataset": {"objects": objects, "size": {"fixed": "4Ki"}, "existing": "FillGaps"},
            "agents": {"replicas": 3},
            "stages": [
                {"name": "prepare", "prepare": {"concurrency": 2}},
                {"name": "mixed", "execute": {
                    "duration": format!("{seconds}s"), "concurrency": 2, "rate": {"operationsPerSecond": 60},
                    "operations": [{"op": "Get", "weight": 3}, {"op": "Put", "size": {"fixed": "4Ki"}}, {"op": "Head"}],
                }},
            ],
        }),
    );
    lockstep_testcluster::runs::merge(&mut run["spec"], spec);
    run
}
