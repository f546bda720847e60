//! Generated files, tidy checks and benchmarks of this repository. Not needed to use the product.

mod bench;
mod crds;
mod fields;
mod soak;
mod tidy;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["crds"] => crds::write().and_then(|()| fields::write()),
        ["crds", "--check"] => crds::check().and_then(|()| fields::check()),
        ["bench", arguments @ ..] => bench::run(arguments),
        ["soak", arguments @ ..] => soak::run(arguments),
        ["tidy"] => tidy::check(),
        _ => bail!(
            "usage: cargo xtask crds [--check] | bench [--quick] [--only NAME]... | soak [--minutes N] [--only NAME]... | tidy"
        ),
    }
}
