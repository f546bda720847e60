//! A release of the chart beside the common one: an operator of a story's own, to be restarted, upgraded and removed.

use crate::installation::{CHART, Image};
use lockstep_testcluster::{Ended, Person};

/// A release.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its namespace.
    pub home: String,
    /// `spec.managedBy` of the runs that it serves.
    pub managed_by: String,
    person: Person,
    image: Image,
}

impl Release {
    /// One that is not installed yet.
    pub fn new(person: &Person, image: &Image, home: &str) -> Self {
        let managed_by = format!("lockstep.dev/{home}");
        Self { home: home.to_owned(), managed_by, person: person.clone(), image: image.clone() }
    }

    /// `helm install` or `upgrade` with values of the form `key=value`.
    pub async fn helm(&self, verb: &str, values: &[&str]) -> Ended {
        let managed_by = format!("operator.managedBy={}", self.managed_by);
        let image = self.image.values();
        let mut args = vec![verb, "lockstep", CHART, "-n", &self.home, "--wait", "--timeout", "3m"];
        let ours = ["crds.install=false", "crds.roles=false", &managed_by, &image[0], &image[1]];
        for value in ours.into_iter().chain(values.iter().copied()) {
            args.extend(["--set", value]);
        }
        self.person.helm(&args).await
    }

    /// The operator's user, as the API server knows it.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:lockstep", self.home)
    }

    /// What `status.controller` says of its runs.
    pub fn claim(&self) -> String {
        format!("{}/lockstep", self.home)
    }
}
