//! Generated files, tidy checks and benchmarks of this repository. Not needed to use the product.

mod bench;
mod crds;
mod deny;
mod docs;
mod e2e;
mod generated;
mod kind;
mod notes;
mod pages;
mod plain;
mod scale;
mod soak;
mod tidy;
mod values;
mod workflows;

use anyhow::{Result, bail, ensure};
use clap::Parser as _;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["crds"] => generated::write(),
        ["crds", "--check"] => {
            let stale = generated::stale()?;
            ensure!(stale.is_empty(), "{}", stale.join("\n"));
            Ok(())
        }
        ["bench", arguments @ ..] => bench::run(arguments),
        ["soak", arguments @ ..] => soak::run(arguments),
        ["e2e", arguments @ ..] => e2e::run(arguments),
        ["image", arguments @ ..] => {
            let arguments = std::iter::once("image").chain(arguments.iter().copied());
            lockstep_image::command::run(lockstep_image::command::Args::parse_from(arguments))
        }
        ["kind", arguments @ ..] => kind::run(arguments),
        ["docs", arguments @ ..] => docs::run(arguments),
        ["notes", version] => notes::print(version),
        ["tidy"] => tidy::check().and_then(|()| deny::check()),
        _ => bail!(
            "usage: cargo xtask crds [--check] | bench [--quick] [--only NAME]... | soak [--minutes N] [--only NAME]... \
             | e2e [--slow] [--list] [bench | NAME...] | image [--help] | kind up | kind down | docs PAGE... [--has NEED]... \
             | notes VERSION | tidy"
        ),
    }
}
