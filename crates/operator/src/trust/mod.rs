//! Trust between the operator and its agents: whom agents believe, and how they prove who they are.
//!
//! | file | what |
//! |---|---|
//! | [`tokens`] | who calls: the pod whose token it is, if that is one of ours |
//! | [`token`], [`review`], [`jwks`] | a token read; who vouches for it |
//! | [`seal`] | how we know the pods that we made |
//! | [`authority`], [`serving`] | certificates, and the one in use |
//! | [`rotation`], [`keeper`] | when the authority changes, and where it is kept |

pub mod authority;
pub mod jwks;
pub mod keeper;
pub mod review;
pub mod rotation;
pub mod seal;
pub mod serving;
pub mod token;
pub mod tokens;
