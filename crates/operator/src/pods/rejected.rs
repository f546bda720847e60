//! Why the API server does not take a pod: read from the error of its creation, since there is no pod to read it from.
//!
//! Quota is retried, since others finish; a denial is not, since the same pod would be denied again. The texts are those of
//! Kubernetes' admission plugins (ResourceQuota, PodSecurity, LimitRanger, ServiceAccount, NamespaceLifecycle, webhooks);
//! they are quoted to the user, and looked at only where the status code leaves the question open.

use super::ended::cut;
use lockstep_api::reasons::Reason;
use lockstep_core::problem::{Problem, exit};

/// An error of the API server, as kube's `Status` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiRefusal {
    /// HTTP status code.
    pub code: u16,
    /// `reason` of the status, e.g. `Forbidden`.
    pub reason: String,
    /// `message` of the status.
    pub message: String,
}

/// What to do about a pod that was not created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Something may make room or appear: wait and try again.
    Wait(Reason, Problem),
    /// The same pod will never be taken: the run fails.
    Never(Reason, Problem),
    /// The name is taken; whose it is, must be looked up.
    NameTaken,
    /// The namespace is going: nothing can be created in it, and the run goes with it.
    NamespaceGoes,
    /// The API server has other troubles; try again.
    Again,
}

/// Whether the API server makes nothing more in a namespace, since it is being deleted.
#[must_use]
pub fn is_of_a_namespace_that_goes(code: u16, message: &str) -> bool {
    code == 403 && message.contains("being terminated")
}

/// Judges a refusal of pod `pod` in `namespace`.
#[must_use]
pub fn judge(refusal: &ApiRefusal, pod: &str, namespace: &str) -> Rejection {
    let ApiRefusal { code, reason, message } = refusal;
    let text = message.to_ascii_lowercase();
    let what = format!("pod {pod} was not created in {namespace}");
    let problem = || Problem::new(what.clone(), cut(message)).exit(exit::UNREACHABLE);
    match code {
        409 if reason == "AlreadyExists" => Rejection::NameTaken,
        _ if is_of_a_namespace_that_goes(*code, &text) => Rejection::NamespaceGoes,
        403 if text.contains("exceeded quota") => Rejection::Wait(
            Reason::WaitingForQuota,
            problem()
                .likely("other pods of the namespace use it up")
                .next(format!("kubectl describe quota -n {namespace}"))
                .next("lower agents.replicas or the agents' requests, or ask for more quota"),
        ),
        403 if text.contains("service account") && text.contains("not found") => Rejection::Wait(
            Reason::ReferenceNotFound,
            problem()
                .likely("the ServiceAccount of agents.template does not exist yet")
                .next(format!("kubectl get serviceaccounts -n {namespace}")),
        ),
        // RBAC speaks of the user, admission of the object.
        403 if text.contains("cannot create resource") => Rejection::Wait(
            Reason::AuthFailed,
            problem()
                .likely("the operator has no rights in this namespace: it is not among watchNamespaces")
                .next("helm upgrade with the namespace in watchNamespaces, or scope: cluster"),
        ),
        400 | 403 | 404 | 413 | 415 | 422 => {
            let problem = problem().exit(exit::REFUSED);
            Rejection::Never(
                Reason::PodRejected,
                if text.contains("podsecurity") {
                    problem
                        .likely(
                            "agents.template asks for more than the namespace's Pod Security level allows",
                        )
                        .next(format!("kubectl get namespace {namespace} --show-labels"))
                } else if text.contains("admission webhook") || text.contains("denied the request") {
                    problem
                        .likely("a policy of the cluster refuses the pod")
                        .next("ask who runs the policy that is named")
                } else {
                    problem
                        .likely("agents.template holds a value that the API server refuses")
                        .next("kubectl explain pod.spec; correct agents.template in a new run")
                },
            )
        }
        _ => Rejection::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: u16, reason: &str, message: &str, want: &str) {
        let refusal = ApiRefusal { code, reason: reason.to_owned(), message: message.to_owned() };
        let got = match judge(&refusal, "nightly-0-0", "perf") {
            Rejection::Wait(reason, problem) => {
                assert!(!problem.next.is_empty() && problem.cause.starts_with(&message[..20]), "{problem}");
                format!("wait {reason}")
            }
            Rejection::Never(reason, problem) => {
                assert!(!problem.next.is_empty() && problem.cause.starts_with(&message[..20]), "{problem}");
                format!("never {reason}")
            }
            other => format!("{other:?}"),
        };
        assert_eq!(got, want, "{message}");
    }

    #[test]
    fn refusals_are_told_apart_by_what_the_api_server_says() {
        let pods = "pods \"nightly-0-0\" is forbidden: ";
        let forbidden = |text: &str, want: &str| check(403, "Forbidden", &format!("{pods}{text}"), want);
        forbidden(
            "exceeded quota: compute, requested: pods=1, used: pods=6, limited: pods=6",
            "wait WaitingForQuota",
        );
        forbidden("failed quota: compute: must specify limits.cpu for: agent", "never PodRejected");
        forbidden(
            "violates PodSecurity \"restricted:latest\": privileged (container \"agent\" …)",
            "never PodRejected",
        );
        forbidden("maximum cpu usage per Container is 2, but limit is 4", "never PodRejected");
        forbidden(
            "error looking up service account perf/x: serviceaccount \"x\" not found",
            "wait ReferenceNotFound",
        );
        forbidden("no PriorityClass with name high was found", "never PodRejected");
        forbidden(
            "unable to create new content in namespace perf because it is being terminated",
            "NamespaceGoes",
        );
        check(
            403,
            "Forbidden",
            "pods is forbidden: User \"system:serviceaccount:s:o\" cannot create resource \"pods\" in API group \"\"",
            "wait AuthFailed",
        );
        check(
            400,
            "BadRequest",
            "admission webhook \"policy.example.com\" denied the request: no",
            "never PodRejected",
        );
        check(
            422,
            "Invalid",
            "Pod \"nightly-0-0\" is invalid: spec.containers[0].image: Required value",
            "never PodRejected",
        );
        check(409, "AlreadyExists", "pods \"nightly-0-0\" already exists", "NameTaken");
        check(409, "Conflict", "the object has been modified; try again", "Again");
        check(500, "InternalError", "failed calling webhook \"x\": connection refused", "Again");
        check(429, "TooManyRequests", "please try again later", "Again");
    }
}
