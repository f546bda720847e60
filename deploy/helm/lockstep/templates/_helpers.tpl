{{- define "lockstep.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains "lockstep" $name) }}{{ $name = printf "%s-lockstep" $name }}{{ end -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Name of what belongs to no namespace: carries the release's, so that releases in two namespaces live side by side. */}}
{{- define "lockstep.clusterName" -}}
{{ .Release.Namespace }}-{{ include "lockstep.name" . }}
{{- end }}

{{/*
Name of the roles by which runs are served. It carries managedBy and not the release: a second release that would serve
the same runs in the same place wants the same name, and helm refuses it.
*/}}
{{- define "lockstep.servesName" -}}
lockstep:{{ .Values.operator.managedBy | replace "/" ":" }}
{{- end }}

{{- define "lockstep.selector" -}}
app.kubernetes.io/name: lockstep
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "lockstep.labels" -}}
{{ include "lockstep.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "lockstep.agentSelector" -}}
app.kubernetes.io/part-of: lockstep
app.kubernetes.io/component: agent
{{- end }}

{{- define "lockstep.image" -}}
{{- with .Values.image.digest -}}
{{ $.Values.image.repository }}@{{ . }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* Namespaces that are served by name, as JSON; none is all. */}}
{{- define "lockstep.namespaces" -}}
{{- if eq .Values.scope "namespace" -}}
{{- if .Values.watchNamespaces }}{{ fail "watchNamespaces goes with `scope: cluster`: with `scope: namespace` the release serves its own" }}{{ end -}}
{{ list .Release.Namespace | toJson }}
{{- else -}}
{{ .Values.watchNamespaces | toJson }}
{{- end }}
{{- end }}

{{/* `true` or nothing. */}}
{{- define "lockstep.bringsCrd" -}}
{{- if eq (toString .Values.crds.install) "auto" }}{{ if eq .Values.scope "cluster" }}true{{ end }}
{{- else if .Values.crds.install }}true{{ end }}
{{- end }}
{{- define "lockstep.bringsRoles" -}}
{{- if eq (toString .Values.crds.roles) "auto" }}{{ include "lockstep.bringsCrd" . }}
{{- else if .Values.crds.roles }}true{{ end }}
{{- end }}

{{/* What the operator may in the namespaces that it serves. docs/kubernetes.md has the reasons. */}}
{{- define "lockstep.rules" -}}
# Runs: watched, finalizers set, deleted when their time to live is over.
- {apiGroups: [lockstep.dev], resources: [benchmarkruns], verbs: [list, watch, patch, delete]}
- {apiGroups: [lockstep.dev], resources: [benchmarkruns/status], verbs: [patch]}
# Agents: made and ended, never changed. One of them is read when it stands in the way of ours.
- {apiGroups: [""], resources: [pods], verbs: [get, list, watch, create, delete]}
# The bundle that agents trust, the report, and until that is written what a later leader needs; named by the run, so they
# need not be listed.
- {apiGroups: [""], resources: [configmaps], verbs: [get, create, update, delete]}
# Why a pod does not come up: mounts that fail are told nowhere else.
- {apiGroups: [""], resources: [events], verbs: [list]}
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}
{{- end }}
