//! Trust between the operator and its agents: whom agents believe, and how they prove who they are.

pub mod authority;
pub mod tokens;
