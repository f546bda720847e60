//! A real Kubernetes control plane for tests, and a stand-in for its kubelet.
//!
//! A fake API server tests one's own idea of Kubernetes. So the tests of the operator run against kube-apiserver, etcd,
//! kube-controller-manager and kube-scheduler, with TLS, RBAC, admission and an audit log, in processes of this machine.
//! Scheduling, garbage collection, eviction, quota, Pod Security are the real thing.
//!
//! | module | what |
//! |---|---|
//! | [`ControlPlane`] | starts, stops, shares the components |
//! | [`Caller`], [`PodSecurity`] | clients, kubeconfigs and namespaces for whom a test pretends to be |
//! | [`Person`], [`Screen`] | kubectl, its plugin `lockstep` and helm, of this or any other cluster, and a terminal to use them on |
//! | [`Runs`], [`runs`] | what tests ask of runs in a namespace, of this or any other cluster |
//! | [`Kstatus`], [`GitOps`] | kstatus' own library, and the samples for GitOps controllers |
//! | [`AuditEntry`] | who asked for what |
//! | [`Node`], [`Image`], [`Fault`] | where the kubelet would stand: pods as local processes |
//! | [`until`], [`until_gone`], [`until_event`], [`eventually`], [`becomes`] | waiting, with a limit, and saying what was seen instead |
//! | [`Tool`] | the programs, built once from pinned Go modules (`tests/control-plane`) |
//! | [`Components`], [`User`] | command lines and files of the components, for the cluster with nodes too (crates/cluster) |
//!
//! Everything listens on loopback and is gone when its value is dropped, or with the process, even one that is killed.
//! Nothing is skipped in silence: what a test needs and this machine lacks is a panic that says what to do. Panics are
//! the way to fail here, because all of it runs in tests. Nothing of this crate is shipped, and it must never be a
//! dependency of anything that is. It is no way to run a cluster either: nothing is durable, and its admin's token is
//! in this source.

mod access;
mod addresses;
mod audit;
mod binaries;
mod components;
mod control_plane;
mod keeper;
mod node;
mod person;
pub mod runs;
mod screen;
mod tools;
mod wait;

pub use access::{Caller, PodSecurity};
pub use audit::AuditEntry;
pub use binaries::{Tool, cache};
pub use components::{Components, User, flags};
pub use control_plane::{ControlPlane, Options};
pub use lockstep_testkit::process::Ended;
pub use node::{Fault, Image, Node, NodeOptions};
pub use person::{Person, workspace_binary};
pub use runs::Runs;
pub use screen::Screen;
pub use tools::{GitOps, Kstatus};
pub use wait::{LIMIT, becomes, eventually, until, until_event, until_gone, until_gone_within, until_within};
