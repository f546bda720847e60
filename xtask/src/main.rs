//! Generated files, tidy checks and benchmarks of this repository. Not needed to use the product.

mod crds;
mod fields;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["crds"] => crds::write().and_then(|()| fields::write()),
        ["crds", "--check"] => crds::check().and_then(|()| fields::check()),
        _ => bail!("usage: cargo xtask crds [--check]"),
    }
}
