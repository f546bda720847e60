//! Generated files, tidy checks and benchmarks of this repository. Not needed to use the product.
fn main() {}
