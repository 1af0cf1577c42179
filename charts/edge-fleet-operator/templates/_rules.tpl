{{/* Rights in the served namespaces: what a recorded run of the operator has used, and nothing more. */}}
{{- define "efo.rules" -}}
- apiGroups: [edgefleet.dev]
  resources: [edgedevices, modelreleases, inferencedeployments]
  verbs: [list, watch]
# Finalizers.
- apiGroups: [edgefleet.dev]
  resources: [edgedevices, inferencedeployments]
  verbs: [patch]
- apiGroups: [edgefleet.dev]
  resources: [edgedevices/status, modelreleases/status, inferencedeployments/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- if .Values.rbac.connectionSecrets }}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
{{- end }}
{{- end -}}

{{/* Rights that no namespace holds: the id of the cluster, and what Namespaces grant their tenants. */}}
{{- define "efo.clusterRules" -}}
{{- $tenancy := default (ternary "open" "annotated" (eq (len .Values.watchNamespaces) 1)) .Values.tenancy -}}
{{- if eq $tenancy "annotated" -}}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
{{ end -}}
- apiGroups: [""]
  resources: [namespaces]
  resourceNames: [kube-system]
  verbs: [get]
{{- end -}}
