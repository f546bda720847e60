#!/bin/sh
# Creates a run, waits until it is over, prints what came of it, keeps its report, and fails unless it passed. Needs kubectl.
#
#     deploy/ci/gate.sh deploy/ci/run.yaml
#
# Environment:
#   NAMESPACE   where the run is created                                      (that of the manifest, or of the context)
#   TIMEOUT     how long it may take, as kubectl has it                       (2h)
#   GATE        the condition that must be True: Passed, or Complete, which   (Passed)
#               lets runs through that nobody can judge
#   REPORT      file for the report                                           (results.json)
#
# Ends with 0: the gate holds; 1: it does not; 5: the run could not be created; 6: it was not over in time, and was asked to
# stop. A pipeline that is cancelled stops its run.
set -u
file=${1:?usage: gate.sh RUN.yaml}
timeout=${TIMEOUT:-2h} gate=${GATE:-Passed} report=${REPORT:-results.json}

# Name and namespace, since the manifest may only say how names begin.
created=$(kubectl create ${NAMESPACE:+-n "$NAMESPACE"} -f "$file" \
    -o jsonpath='{.metadata.namespace} {.metadata.name}') || exit 5
namespace=${created% *} run=benchmarkrun/${created#* }
echo "created $run in $namespace"

stop() {
    patch="{\"spec\":{\"stop\":{\"mode\":\"Graceful\",\"reason\":\"$1\"}}}"
    kubectl patch "$run" -n "$namespace" --type merge -p "$patch"
}
# In the background, so that a signal is heard at once.
kubectl wait "$run" -n "$namespace" --for=condition=Finished --timeout="$timeout" &
waiting=$!
trap 'kill "$waiting" 2>/dev/null; stop "the pipeline was cancelled"; exit 130' INT TERM
wait "$waiting"
waited=$?
trap - INT TERM

read_run() {
    kubectl get "$run" -n "$namespace" -o jsonpath="$1"
}
read_run '{.status.phase}, verdict {.status.verdict}: {.status.message}{"\n"}'
read_run '{range .status.thresholds[*]}{.result}{"\t"}{.name}{"\tobserved "}{.observed}{", limit "}{.limit}{"\n"}{end}'
if [ "$waited" -ne 0 ]; then
    echo "$run was not over after $timeout"
    stop "the pipeline waits no longer than $timeout"
    exit 6
fi

stored=$(read_run '{.status.results.configMap}')
if [ -n "$stored" ]; then
    kubectl get configmap "$stored" -n "$namespace" -o jsonpath='{.data.results\.json}' >"$report" && echo "report: $report"
fi

holds=$(read_run "{.status.conditions[?(@.type==\"$gate\")].status}")
why=$(read_run "{.status.conditions[?(@.type==\"$gate\")].reason}")
echo "$gate: ${holds:-not there} ($why)"
[ "$holds" = True ]
