{{- define "tunesmith.fullname" -}}
{{- if contains "tunesmith" .Release.Name -}}{{ .Release.Name | trunc 53 | trimSuffix "-" }}{{- else -}}{{ printf "%s-tunesmith" .Release.Name | trunc 53 | trimSuffix "-" }}{{- end -}}
{{- end }}

{{- define "tunesmith.selectorLabels" -}}
app.kubernetes.io/name: tunesmith
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "tunesmith.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/name: tunesmith
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "tunesmith.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "tunesmith.fullname" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "tunesmith.image" -}}
{{- $image := get .root.Values.images .part -}}
{{- $image | default (printf "tunesmith/%s:%s" .part .root.Chart.AppVersion) -}}
{{- end }}

{{- define "tunesmith.rules" -}}
- apiGroups: [tunesmith.dev]
  resources: [finetunejobs, modelendpoints]
  verbs: [get, list, watch]
- apiGroups: [tunesmith.dev]
  resources: [finetunejobs]
  verbs: [delete] # ttlSecondsAfterFinished
- apiGroups: [tunesmith.dev]
  resources: [modelendpoints]
  verbs: [create, patch, delete] # the endpoints that jobs own
- apiGroups: [tunesmith.dev]
  resources: [finetunejobs/status, modelendpoints/status]
  verbs: [patch]
- apiGroups: [tunesmith.dev]
  resources: [finetunejobs/finalizers, modelendpoints/finalizers]
  verbs: [update] # owner references that block the owner's deletion
- apiGroups: [""]
  resources: [configmaps, persistentvolumeclaims, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete] # workers of one training reach each other
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}
