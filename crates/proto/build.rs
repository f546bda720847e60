//! Compiles `proto/` with protox, in pure Rust: no protoc on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Read when it runs: a build kept from another checkout would look for it there.
    let root = format!("{}/../../proto", std::env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo:rerun-if-changed={root}");
    let descriptors = protox::compile(["lockstep/v1/coordination.proto"], [&root])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
