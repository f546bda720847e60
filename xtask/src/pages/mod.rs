//! Pages of `docs/` that say what the code knows: a text that people write, and tables that are made.

pub mod manifest;
pub mod resource;
pub mod security;
pub mod status;
