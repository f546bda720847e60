//! Pods in the shapes in which a kubelet, the scheduler and the controllers leave them.

use super::*;
use serde_json::{Value, json};

const NOW: &str = "2026-11-24T10:01:00Z";

fn pod(status: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "nightly-3-0", "namespace": "perf", "uid": "u", "labels": {
            "lockstep.dev/agent-index": "3", "lockstep.dev/agent-attempt": "0",
        }},
        "spec": {"nodeName": "node-1", "containers": []},
        "status": status,
    }))
    .expect("a pod")
}

fn judge(pod: &Pod, events: &[PodEvent], said_hello: bool) -> Option<Trouble> {
    of(pod, events, said_hello, NOW.parse().expect("a time"))
}

fn check(status: &Value, want: Option<(Reason, Weight, &str)>) {
    let trouble = judge(&pod(status), &[], false);
    let got = trouble.as_ref().map(|trouble| (trouble.reason, trouble.weight));
    assert_eq!(got, want.map(|(reason, weight, _)| (reason, weight)), "{status}");
    if let (Some(trouble), Some((_, _, cause))) = (trouble, want) {
        let problem = &trouble.problem;
        assert!(problem.cause.contains(cause), "{}: {cause}", problem.cause);
        assert!(problem.what.contains("agent 3 (pod nightly-3-0 on node-1)"), "{}", problem.what);
        assert!(!problem.likely.is_empty() && !problem.next.is_empty(), "{status}");
        assert!(trouble.reason.is_warning());
    }
}

fn waiting(name: &str, reason: &str, message: &str) -> Value {
    json!({"phase": "Pending", "containerStatuses": [{
        "name": name, "image": "lockstep/agent:x", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}},
    }]})
}

fn ended(state: &Value) -> Value {
    json!({"phase": "Running", "containerStatuses": [
        {"name": "sidecar", "image": "s", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}},
        {"name": "agent", "image": "a", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": state}},
    ]})
}

#[test]
fn pods_that_find_no_node() {
    let scheduled = |reason: &str, message: &str| {
        json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": reason, "message": message},
        ]})
    };
    let no_room = "0/3 nodes are available: 3 Insufficient cpu.";
    check(&scheduled("Unschedulable", no_room), Some((Reason::Unschedulable, Weight::Waits, no_room)));
    let gated = "Scheduling is blocked due to non-empty scheduling gates";
    check(&scheduled("SchedulingGated", gated), Some((Reason::SchedulingGated, Weight::Waits, gated)));
    check(&json!({"phase": "Pending"}), None);
}

#[test]
fn containers_that_do_not_come_up() {
    use Weight::{Fatal, Waits};
    for (word, reason, weight) in [
        ("ErrImagePull", Reason::ImagePullFailed, Waits),
        ("ImagePullBackOff", Reason::ImagePullFailed, Waits),
        ("ErrImageNeverPull", Reason::ImagePullFailed, Fatal),
        ("InvalidImageName", Reason::InvalidImageName, Fatal),
        ("CreateContainerConfigError", Reason::ConfigError, Waits),
        ("CreateContainerError", Reason::CreateContainerError, Waits),
        ("CrashLoopBackOff", Reason::CrashLoop, Waits),
    ] {
        check(&waiting("agent", word, "the text"), Some((reason, weight, "the text")));
        check(&waiting("sidecar", word, "the text"), Some((reason, weight, "container sidecar")));
    }
    let root = "container has runAsNonRoot and image will run as root";
    check(&waiting("agent", "CreateContainerConfigError", root), Some((Reason::ConfigError, Fatal, root)));
    check(&waiting("agent", "ContainerCreating", ""), None);
    check(&waiting("agent", "PodInitializing", ""), None);
}

#[test]
fn a_volume_that_is_not_mounted_is_read_from_events_while_nothing_runs() {
    let event = |reason: &str, note: &str| PodEvent { reason: reason.to_owned(), note: note.to_owned() };
    let events =
        [event("Scheduled", "ok"), event("FailedMount", "MountVolume.SetUp failed: secret \"x\" not found")];
    let trouble = judge(&pod(&waiting("agent", "ContainerCreating", "")), &events, false).expect("trouble");
    assert_eq!((trouble.reason, trouble.weight), (Reason::FailedMount, Weight::Waits));
    assert!(trouble.problem.cause.contains("secret \"x\" not found"));
    let running = json!({"phase": "Running", "containerStatuses": [{
        "name": "agent", "image": "a", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {"startedAt": NOW}},
    }]});
    assert_eq!(judge(&pod(&running), &events, false), None);
}

#[test]
fn an_agent_that_runs_and_does_not_speak() {
    let since = |at: &str| {
        json!({"phase": "Running", "containerStatuses": [{
            "name": "agent", "image": "a", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {"startedAt": at}},
        }]})
    };
    check(&since("2026-11-24T10:00:55Z"), Some((Reason::NoHello, Weight::Waits, "has not said hello")));
    check(&since("2026-11-24T10:00:56Z"), None);
    assert_eq!(judge(&pod(&since("2026-11-24T09:00:00Z")), &[], true), None);
}

#[test]
fn agents_that_ended() {
    let exit = |code: i32| json!({"exitCode": code, "reason": "Error"});
    check(&ended(&json!({"exitCode": 0, "reason": "Completed"})), None);
    check(&ended(&exit(3)), Some((Reason::Ended, Weight::Ended, "exit code 3")));
    check(&ended(&exit(70)), Some((Reason::Orphaned, Weight::Ended, "exit code 70")));
    let oom = json!({"exitCode": 137, "reason": "OOMKilled"});
    check(&ended(&oom), Some((Reason::OOMKilled, Weight::Ended, "exit code 137 (killed)")));
    let words = json!({"exitCode": 1, "reason": "Error", "message": "the disk is on fire\n"});
    check(&ended(&words), Some((Reason::Ended, Weight::Ended, "the disk is on fire; exit code 1")));
    let problem = serde_json::to_string(&Problem::new("no plan", "it is of format 9")).expect("JSON");
    let told = json!({"exitCode": 2, "reason": "Error", "message": problem});
    check(&ended(&told), Some((Reason::Ended, Weight::Ended, "no plan: it is of format 9")));
}

#[test]
fn pods_that_were_taken_away() {
    let failed =
        |reason: &str, message: &str| json!({"phase": "Failed", "reason": reason, "message": message});
    check(
        &failed("Evicted", "The node was low on resource: memory."),
        Some((Reason::Evicted, Weight::Ended, "low on resource")),
    );
    check(
        &failed("DeadlineExceeded", "Pod was active too long"),
        Some((Reason::DeadlineExceeded, Weight::Ended, "too long")),
    );
    check(
        &failed("Terminated", "Pod was terminated in response to imminent node shutdown."),
        Some((Reason::NodeLost, Weight::Ended, "node shutdown")),
    );
    for (why, reason) in [
        ("PreemptionByScheduler", Reason::Preempted),
        ("EvictionByEvictionAPI", Reason::Evicted),
        ("DeletionByTaintManager", Reason::NodeLost),
        ("DeletionByPodGC", Reason::NodeLost),
    ] {
        let conditions =
            json!([{"type": "DisruptionTarget", "status": "True", "reason": why, "message": "m"}]);
        let mut status = ended(&json!({"exitCode": 137, "reason": "Error"}));
        status["conditions"] = conditions.clone();
        check(&status, Some((reason, Weight::Ended, why)));
        // Still running: it is shown, and nothing has ended.
        let going = json!({"phase": "Running", "conditions": conditions});
        check(&going, Some((reason, Weight::Waits, why)));
    }
}

#[test]
fn completion_is_the_agents_alone_and_death_must_be_proven() {
    let clean = ended::of(&pod(&ended(&json!({"exitCode": 0})))).expect("ended");
    assert!(clean.clean && clean.dead);
    // Its node was deleted: called failed from outside, while its container was last seen running.
    let gone = pod(&json!({"phase": "Failed",
    "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}],
    "containerStatuses": [{
        "name": "agent", "image": "a", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}},
    }]}));
    let gone = ended::of(&gone).expect("ended");
    assert_eq!((gone.reason, gone.dead), (Reason::NodeLost, false));
    let never_started = ended::of(&pod(&json!({"phase": "Failed", "reason": "Evicted"}))).expect("ended");
    assert!(never_started.dead);
    let running = json!({"phase": "Running", "containerStatuses": [
        {"name": "sidecar", "image": "s", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 1}}},
        {"name": "agent", "image": "a", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}},
    ]});
    assert_eq!(ended::of(&pod(&running)), None);
}

#[test]
fn a_killed_agent_of_a_deleted_pod_was_deleted() {
    let mut pod = pod(&ended(&json!({"exitCode": 143, "reason": "Error"})));
    pod.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(NOW.parse().expect("a time")));
    let ended = ended::of(&pod).expect("ended");
    assert_eq!((ended.reason, ended.loss.name()), (Reason::PodDeleted, "PodDeleted"));
}

#[test]
fn every_loss_is_one_that_rules_can_name() {
    for why in ["PreemptionByScheduler", "EvictionByEvictionAPI", "DeletionByTaintManager"] {
        let mut status = ended(&json!({"exitCode": 137}));
        status["conditions"] = json!([{"type": "DisruptionTarget", "status": "True", "reason": why}]);
        let loss = ended::of(&pod(&status)).expect("ended").loss;
        assert!(Reason::from_name(loss.name()).is_some_and(Reason::is_loss), "{}", loss.name());
    }
    for reason in ["Evicted", "DeadlineExceeded", "NodeLost", "UnexpectedAdmissionError"] {
        let loss = ended::of(&pod(&json!({"phase": "Failed", "reason": reason}))).expect("ended").loss;
        assert!(Reason::from_name(loss.name()).is_some_and(Reason::is_loss), "{}", loss.name());
    }
}
