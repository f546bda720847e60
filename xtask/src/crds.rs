//! `deploy/crds`: the definition of the resource as YAML, made from the types in `crates/api`.

use anyhow::Result;

const HEADER: &str = "# Made by `cargo xtask crds` from crates/api. Do not edit.\n";

/// The file's text.
///
/// # Errors
/// The definition cannot be written as YAML.
pub fn render() -> Result<String> {
    Ok(format!("{HEADER}{}", serde_yaml::to_string(lockstep_api::crd::json())?))
}
