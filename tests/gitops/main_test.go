package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const (
	healthLua  = "../../deploy/gitops/argocd/health.lua"
	argocdCM   = "../../deploy/gitops/argocd/argocd-cm.yaml"
	benchmarks = "../../deploy/gitops/flux/benchmarks.yaml"
)

type object = map[string]any

func condition(kind, truth, reason, message string) any {
	return object{
		"type": kind, "status": truth, "reason": reason, "message": message,
		"lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 3,
	}
}

// live is a run whose latest spec has been seen.
func live(conditions ...any) object {
	return object{
		"apiVersion": "lockstep.dev/v1alpha1", "kind": "BenchmarkRun",
		"metadata": object{"name": "nightly", "namespace": "perf", "generation": 3},
		"spec":     object{"target": object{"uri": "s3://bench/nightly"}},
		"status":   object{"observedGeneration": 3, "conditions": append([]any{}, conditions...)},
	}
}

// going is a run that works or waits.
func going(reason, message string, more ...any) object {
	own := []any{
		condition("Accepted", "True", "Accepted", "the spec is resolved, and the plan stands"),
		condition("Reconciling", "True", reason, message),
		condition("Ready", "Unknown", reason, message),
	}
	return live(append(own, more...)...)
}

// finished is a run as docs/status.md has it: `Stalled` and `Reconciling` only where they are true.
func finished(complete bool, reason, passed, passedReason string, more ...any) object {
	const message = "8 of 8 agents, 5 m"
	yes, no := "True", "False"
	if !complete {
		yes, no = no, yes
	}
	own := []any{
		condition("Accepted", "True", "Accepted", "the spec is resolved, and the plan stands"),
		condition("AgentsReady", "True", "AgentsReady", "the quorum joined and is prepared"),
		condition("Started", "True", "Started", "the first stage has started"),
		condition("ResultsPublished", "True", "ResultsPublished", "results are where they belong"),
		condition("Complete", yes, reason, message),
		condition("Failed", no, reason, message),
		condition("Finished", "True", reason, message),
		condition("Passed", passed, passedReason, message),
		condition("Ready", yes, reason, message),
	}
	if !complete {
		own = append(own, condition("Stalled", "True", reason, message))
	}
	return live(append(own, more...)...)
}

// with sets a member of the object by its path.
func with(of object, value any, path ...string) object {
	at := of
	for _, key := range path[:len(path)-1] {
		at = at[key].(object)
	}
	if value == nil {
		delete(at, path[len(path)-1])
	} else {
		at[path[len(path)-1]] = value
	}
	return of
}

var degraded = condition("Degraded", "True", "Degraded", "agent 1 was lost in mixed at 0:06")

var table = []struct {
	name    string
	object  object
	argocd  string
	message string
	flux    string
}{
	// Outcome × verdict.
	{"succeeded, passed", finished(true, "Completed", "True", "Passed"), "Healthy", "Completed: 8 of 8 agents, 5 m", "Current"},
	{"succeeded, none", finished(true, "Completed", "True", "NoThresholds"), "Healthy", "Completed: 8 of 8 agents, 5 m", "Current"},
	{"succeeded, passed with breaches that are only reported", with(finished(true, "Completed", "True", "Passed"),
		[]any{object{"name": "read-tail", "result": "Failed"}}, "status", "thresholds"), "Healthy", "Completed: 8 of 8 agents, 5 m", "Current"},
	{"succeeded, failed", finished(false, "ThresholdBreached", "False", "ThresholdBreached"), "Degraded", "ThresholdBreached: 8 of 8 agents, 5 m", "Failed"},
	{"succeeded, inconclusive", finished(true, "Completed", "Unknown", "Inconclusive", degraded), "Healthy", "not judged, Inconclusive: 8 of 8 agents, 5 m", "Current"},
	{"partial, passed", finished(true, "Partial", "Unknown", "Partial", degraded), "Healthy", "not judged, Partial: 8 of 8 agents, 5 m", "Current"},
	{"partial, none", finished(true, "Partial", "Unknown", "Partial", degraded), "Healthy", "not judged, Partial: 8 of 8 agents, 5 m", "Current"},
	{"partial, inconclusive", finished(true, "Partial", "Unknown", "Partial", degraded), "Healthy", "not judged, Partial: 8 of 8 agents, 5 m", "Current"},
	{"partial, failed", finished(false, "ThresholdBreached", "False", "ThresholdBreached", degraded), "Degraded", "ThresholdBreached: 8 of 8 agents, 5 m", "Failed"},
	{"failed", finished(false, "AgentLost", "Unknown", "AgentLost", degraded), "Degraded", "AgentLost: 8 of 8 agents, 5 m", "Failed"},
	{"aborted", finished(false, "Aborted", "Unknown", "Aborted"), "Degraded", "Aborted: 8 of 8 agents, 5 m", "Failed"},

	// Before the operator has looked, or has looked again.
	{"just created", with(with(live(), object{"observedGeneration": -1}, "status"), 1, "metadata", "generation"),
		"Progressing", "no operator has looked at the run yet", "InProgress"},
	{"observed generation behind", with(finished(true, "Completed", "True", "Passed"), 2, "status", "observedGeneration"),
		"Progressing", "the operator has not looked at the latest spec yet", "InProgress"},
	{"no observed generation", with(finished(true, "Completed", "True", "Passed"), nil, "status", "observedGeneration"),
		"Progressing", "the operator has not looked at the latest spec yet", "InProgress"},
	{"no conditions", with(live(), nil, "status", "conditions"), "Progressing", "no operator has looked at the run yet", "InProgress"},
	{"empty conditions", live(), "Progressing", "Ready", "InProgress"},

	// Under way, waiting, held.
	{"running", going("Running", "mixed, 62 %"), "Progressing", "Running: mixed, 62 %", "InProgress"},
	{"running, degraded", going("Running", "mixed, 62 %", degraded), "Progressing", "Running: mixed, 62 %", "InProgress"},
	{"waiting in a queue", going("SchedulingGated", "0 of 8 agents have nodes, and 8 are needed",
		condition("AgentsReady", "False", "SchedulingGated", "0 of 8 agents are ready")),
		"Progressing", "SchedulingGated: 0 of 8 agents have nodes, and 8 are needed", "InProgress"},
	{"suspended", live(condition("Suspended", "True", "Suspended", "spec.suspend holds the run"),
		condition("Ready", "False", "Suspended", "spec.suspend holds the run")), "Suspended", "Suspended: spec.suspend holds the run", "InProgress"},
	{"being suspended", going("Running", "ending its agents", condition("Suspended", "True", "Suspended", "spec.suspend holds the run")),
		"Progressing", "Running: ending its agents", "InProgress"},
	{"resumed", going("Waiting", "a new attempt begins", condition("Suspended", "False", "Resumed", "spec.suspend was lifted")),
		"Progressing", "Waiting: a new attempt begins", "InProgress"},

	// What a newer operator may say.
	{"unknown condition while it lasts", live(condition("Blessed", "True", "Fine", "all is well")), "Progressing", "Ready", "InProgress"},
	{"unknown condition after it", finished(true, "Completed", "True", "Passed", condition("Blessed", "False", "Fine", "no")),
		"Healthy", "Completed: 8 of 8 agents, 5 m", "Current"},
	{"finished without an outcome", live(condition("Finished", "True", "Vanished", "")),
		"Progressing", "the run is finished in a way that this check does not know", "InProgress"},
	{"finished is not known", live(condition("Finished", "Unknown", "Vanished", ""), condition("Failed", "True", "Vanished", "")),
		"Progressing", "Ready", "InProgress"},
	{"a word without a sentence", finished(false, "", "Unknown", ""), "Degraded", "Failed: 8 of 8 agents, 5 m", "Failed"},

	// Argo CD looks at the deletion, Flux's expressions do not.
	{"being deleted", with(with(finished(true, "Completed", "True", "Passed"), "2026-01-01T00:00:00Z", "metadata", "deletionTimestamp"),
		[]any{"lockstep.dev/agents"}, "metadata", "finalizers"), "Progressing", "Pending deletion; blocked by finalizers: lockstep.dev/agents", "Current"},
}

func samples(t *testing.T) (string, map[schema.GroupKind][]check) {
	t.Helper()
	script, checks, err := load(healthLua, benchmarks)
	if err != nil {
		t.Fatal(err)
	}
	return script, checks
}

// answers runs the program on objects.
func answers(t *testing.T, objects ...object) []answer {
	t.Helper()
	script, checks := samples(t)
	var in, out bytes.Buffer
	for _, one := range objects {
		if err := json.NewEncoder(&in).Encode(one); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(script, checks, &in, &out); err != nil {
		t.Fatal(err)
	}
	var all []answer
	for line := range strings.Lines(out.String()) {
		var said answer
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			t.Fatal(err)
		}
		all = append(all, said)
	}
	if len(all) != len(objects) {
		t.Fatalf("%d answers to %d objects", len(all), len(objects))
	}
	return all
}

func TestEveryStateOfARun(t *testing.T) {
	var objects []object
	for _, row := range table {
		objects = append(objects, row.object)
	}
	for i, said := range answers(t, objects...) {
		row := table[i]
		want := answer{ArgoCD: health{Status: row.argocd, Message: row.message}, Flux: row.flux}
		if said != want {
			t.Errorf("%s:\n got %+v\nwant %+v", row.name, said, want)
		}
	}
}

// Words for people may change: no answer hangs on them.
func TestPhaseAndVerdictDecideNothing(t *testing.T) {
	for _, word := range []string{"Succeeded", "Failed", "Running", "a word of tomorrow"} {
		for _, row := range table {
			if _, is := row.object["status"].(object); !is {
				continue
			}
			plain := answers(t, row.object)[0]
			with(with(row.object, word, "status", "phase"), word, "status", "verdict")
			if said := answers(t, row.object)[0]; said != plain {
				t.Errorf("%s: with phase %s %+v, without %+v", row.name, word, said, plain)
			}
			with(with(row.object, nil, "status", "phase"), nil, "status", "verdict")
		}
	}
}

// A default in the CRD makes a status for every live object; this is one that no API server has seen.
func TestWithoutAStatusFluxCannotSay(t *testing.T) {
	said := answers(t, with(live(), nil, "status"))[0]
	if said.ArgoCD.Status != "Progressing" || said.Flux != "Unknown" || !strings.Contains(said.FluxMessage, "status") {
		t.Errorf("%+v", said)
	}
}

// What is not of the resource's shape is no error for Argo CD, which would show Unknown, worse than Degraded.
func TestOddShapesAreProgressing(t *testing.T) {
	for name, odd := range map[string]object{
		"status is text":            with(live(), "fine", "status"),
		"conditions are text":       with(live(), "fine", "status", "conditions"),
		"conditions are a map":      with(live(), object{"Finished": "True"}, "status", "conditions"),
		"a condition is text":       live("Finished"),
		"a condition has no type":   live(object{"status": "True"}),
		"a condition has no status": live(object{"type": "Finished"}),
		"a message is a number":     going("Running", "x", object{"type": "Ready", "status": "True", "message": 3}),
		"no generation":             with(live(), nil, "metadata", "generation"),
	} {
		script, _ := samples(t)
		document, err := json.Marshal(odd)
		if err != nil {
			t.Fatal(err)
		}
		decoded := &unstructured.Unstructured{}
		if err := decoded.UnmarshalJSON(document); err != nil {
			t.Fatal(err)
		}
		if said := argoCD(script, decoded); said.Status != "Progressing" || said.Message == "" {
			t.Errorf("%s: %+v", name, said)
		}
	}
}

// The sandbox is the one of argocd-cm, not that of scripts within Argo CD.
func TestTheStandardLibrariesAreOff(t *testing.T) {
	for _, script := range []string{
		`return {status = "Healthy", message = string.format("%d", 1)}`,
		`return {status = "Healthy", message = ("x"):upper()}`,
		`return {status = "Healthy", message = "" .. math.floor(1.5)}`,
		`return {status = "Healthy", message = os.getenv("HOME")}`,
		`return "Healthy"`,
		`return {status = "Fine"}`,
	} {
		if said := argoCD(script, &unstructured.Unstructured{Object: live()}); said.Status != "Unknown" || said.Message == "" {
			t.Errorf("%s: %+v", script, said)
		}
	}
	said := argoCD(`local list = {"b", "a"} table.sort(list) return {status = "Healthy", message = list[1]}`,
		&unstructured.Unstructured{Object: live()})
	if said != (health{Status: "Healthy", Message: "a"}) {
		t.Errorf("%+v", said)
	}
}

func TestTheConfigMapHoldsTheScript(t *testing.T) {
	script, err := os.ReadFile(healthLua)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(argocdCM)
	if err != nil {
		t.Fatal(err)
	}
	var configMap struct{ Data map[string]string }
	if err := yaml.Unmarshal(file, &configMap); err != nil {
		t.Fatal(err)
	}
	if configMap.Data["resource.customizations.health.lockstep.dev_BenchmarkRun"] != string(script) {
		t.Errorf("%s does not hold %s word for word", argocdCM, healthLua)
	}
	if len(configMap.Data) != 1 {
		t.Errorf("the patch sets more than the health check: %v", configMap.Data)
	}
}

// An object that nobody wrote expressions for is a mistake in the samples, not an answer.
func TestOtherKindsAreRefused(t *testing.T) {
	script, checks := samples(t)
	var out bytes.Buffer
	err := run(script, checks, strings.NewReader(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}`), &out)
	if err == nil || !strings.Contains(err.Error(), "Pod a: there are no healthCheckExprs") {
		t.Errorf("%v", err)
	}
}

func TestFluxOrder(t *testing.T) {
	both := live(condition("Finished", "True", "x", ""), condition("Failed", "True", "x", ""), condition("Complete", "True", "x", ""))
	if said := answers(t, both)[0]; said.Flux != "Failed" || said.ArgoCD.Status != "Degraded" {
		t.Errorf("failed comes before current: %+v", said)
	}
	const text = `
kind: Kustomization
spec:
  healthCheckExprs:
    - {apiVersion: a/v1, kind: K, current: "true", failed: "true", inProgress: "has(metadata.name)"}
    - {apiVersion: b/v1, kind: K, current: "'text'"}
`
	checks, err := readChecks(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	named := &unstructured.Unstructured{Object: object{"metadata": object{"name": "n"}}}
	unnamed := &unstructured.Unstructured{Object: object{"metadata": object{}}}
	for _, row := range []struct {
		group  string
		object *unstructured.Unstructured
		want   string
	}{{"a", named, "InProgress"}, {"a", unnamed, "Failed"}, {"b", named, "Unknown"}} {
		if said, _ := flux(checks[schema.GroupKind{Group: row.group, Kind: "K"}], row.object); said != row.want {
			t.Errorf("%s: %s, not %s", row.group, said, row.want)
		}
	}
	for _, wrong := range []string{"spec: {healthCheckExprs: [{apiVersion: a/v1, kind: K}]}", "spec: {healthCheckExprs: [{apiVersion: a/v1, kind: K, current: '('}]}"} {
		if _, err := readChecks(strings.NewReader(wrong)); err == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
}
