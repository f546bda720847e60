//! The `lockstep-image` binary: `cargo xtask image` where nothing else of the workspace is built, as in the Dockerfile.

use clap::Parser;
use lockstep_image::command::{self, Args};

fn main() -> anyhow::Result<()> {
    command::run(Args::parse())
}
