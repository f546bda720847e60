//! What the operator costs and how fast it is, on a real control plane with real sessions: rows of `cargo xtask bench`, and
//! long checks of `cargo xtask soak`, which start this program and read its lines.
//!
//! | name | what |
//! |---|---|
//! | `overhead` | a run of 8 agents from apply to Finished, without the start of its pods and its window |
//! | `thousand` | one run of 1,000 agents, each reporting once a second |
//! | `takeover` | one run of 1,000 agents, whose operator is killed while another replica stands by |
//! | `hundred` | 100 runs at once with 2 agents each |
//! | `crowded` | 10,000 finished runs and 20,000 foreign pods, and a run among them |
//!
//! A line of JSON per figure: `{"name", "figure", "goal", "met"}`. `--quick` takes a tenth of everything.

mod cluster;
mod crowded;
mod hundred;
mod measure;
mod overhead;
mod story;
mod takeover;
mod thousand;

use cluster::Cluster;
use serde_json::json;

/// One figure.
pub struct Figure {
    /// What it is of.
    pub name: &'static str,
    /// The figure, with its unit and circumstances.
    pub figure: String,
    /// What is wanted.
    pub goal: String,
    /// Whether it is so.
    pub met: bool,
}

impl Figure {
    fn new(name: &'static str, figure: String, goal: impl Into<String>, met: bool) -> Self {
        Self { name, figure, goal: goal.into(), met }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let wanted = |name: &str| arguments.iter().any(|argument| argument == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        if wanted("overhead") {
            show(overhead::measure(quick).await);
        }
        if wanted("thousand") {
            show(thousand::measure(quick).await);
        }
        if wanted("takeover") {
            show(takeover::measure(quick).await);
        }
        if wanted("hundred") {
            show(hundred::measure(quick).await);
        }
        if wanted("crowded") {
            show(crowded::measure(quick).await);
        }
    });
}

fn show(figures: Vec<Figure>) {
    for Figure { name, figure, goal, met } in figures {
        println!("{}", json!({"name": name, "figure": figure, "goal": goal, "met": met}));
    }
}
