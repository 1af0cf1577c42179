{{- define "efo.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "efo.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "efo.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "efo.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "efo.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "efo.selector" -}}
app.kubernetes.io/name: {{ include "efo.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "efo.labels" -}}
{{ include "efo.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: edge-fleet-operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "efo.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "efo.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "efo.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Mebibytes of heap for a fleet: what libraries need, and 6 KiB a device. */}}
{{- define "efo.heap" -}}
{{- add 160 (div (mul .Values.fleet.expectedDevices 6) 1024) -}}
{{- end -}}

{{/* Mebibytes written as 512Mi or 2Gi. */}}
{{- define "efo.mebibytes" -}}
{{- if hasSuffix "Gi" . -}}
{{- mul (trimSuffix "Gi" .) 1024 -}}
{{- else -}}
{{- trimSuffix "Mi" . -}}
{{- end -}}
{{- end -}}

{{/* Resources, and what is missing in them: (dict "resources" … "request" memory "limit" memory "disk" limit of local files) */}}
{{- define "efo.resources" -}}
{{- $memory := dict "requests" (dict "memory" .request "ephemeral-storage" "64Mi") "limits" (dict "memory" .limit "ephemeral-storage" .disk) -}}
{{- toYaml (mergeOverwrite $memory (deepCopy .resources)) -}}
{{- end -}}

{{- define "efo.containerSecurity" -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* What cannot work, named by its key; each is a line. */}}
{{- define "efo.validate" -}}
{{- $v := .Values -}}
{{- $faults := list -}}
{{- if not $v.image.repository -}}
{{- $faults = append $faults "image.repository: no image is given; push the one that `make image` builds to a registry of yours, and name it here" -}}
{{- end -}}
{{- if and (not $v.hub.host) (not $v.hub.connectionStringSecret.name) -}}
{{- $faults = append $faults "hub: no IoT Hub is given; set hub.host (with workloadIdentity.clientId) or hub.connectionStringSecret.name" -}}
{{- else if and $v.hub.host $v.hub.connectionStringSecret.name -}}
{{- $faults = append $faults "hub: hub.host and hub.connectionStringSecret.name are two credentials for one hub; leave one of them empty" -}}
{{- end -}}
{{- if and (not $v.storage.url) (not $v.storage.connectionStringSecret.name) -}}
{{- $faults = append $faults "storage: no blob storage is given; set storage.url (with workloadIdentity.clientId) or storage.connectionStringSecret.name" -}}
{{- else if and $v.storage.url $v.storage.connectionStringSecret.name -}}
{{- $faults = append $faults "storage: storage.url and storage.connectionStringSecret.name are two credentials for one store; leave one of them empty" -}}
{{- end -}}
{{- if and (or $v.hub.host $v.storage.url) (not $v.workloadIdentity.clientId) (not (hasKey $v.serviceAccount.annotations "azure.workload.identity/client-id")) -}}
{{- $faults = append $faults "workloadIdentity.clientId: hub.host and storage.url are used with workload identity; give the client id of the managed identity" -}}
{{- end -}}
{{- if and $v.hub.ca.configMapName (not $v.hub.endpoint) -}}
{{- $faults = append $faults "hub.ca.configMapName: an authority is used with hub.endpoint only; leave it empty, or set hub.endpoint" -}}
{{- end -}}
{{- if and (not $v.serviceAccount.create) (not $v.serviceAccount.name) -}}
{{- $faults = append $faults "serviceAccount.name: with serviceAccount.create=false, name the ServiceAccount to use" -}}
{{- end -}}
{{- if $faults -}}
{{- fail (printf "\n\nThe values cannot work:\n- %s\n" (join "\n- " $faults)) -}}
{{- end -}}
{{- end -}}

{{- define "efo.workloadIdentity" -}}
{{- if or .Values.hub.host .Values.storage.url -}}true{{- end -}}
{{- end -}}
