{{/* The name of all objects. 52 characters leave room for the hash in the labels of pods. */}}
{{- define "kcagent.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "kcagent.selectorLabels" -}}
app.kubernetes.io/name: kcagent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The pods have the selector's labels only: another version of the chart alone restarts none. */}}
{{- define "kcagent.labels" -}}
{{ include "kcagent.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "kcagent.image" -}}
{{- if .Values.image.digest -}}
{{- .Values.image.repository }}@{{ .Values.image.digest -}}
{{- else -}}
{{- .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion -}}
{{- end -}}
{{- end -}}

{{- define "kcagent.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "kcagent.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "kcagent.configMap" -}}
{{- .Values.existingConfigMap | default (include "kcagent.fullname" .) -}}
{{- end -}}

{{/* The content of consumers.yaml from config. The pods of a Deployment have other names after each
restart, so the default instance_id is left out there. */}}
{{- define "kcagent.config" -}}
{{- $config := .Values.config | default dict -}}
{{- $defaults := $config.defaults | default dict -}}
{{- if and (not .Values.persistence.enabled) (eq ($defaults.instance_id | default "") "{name}-${POD_NAME}") -}}
{{- $defaults = omit $defaults "instance_id" -}}
{{- $config = omit $config "defaults" -}}
{{- with $defaults -}}
{{- $config = merge (dict "defaults" .) $config -}}
{{- end -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{- define "kcagent.scheme" -}}
{{- ternary "https" "http" .Values.http.tls -}}
{{- end -}}

{{/* An amount of memory in bytes, from a number or a text with a unit. */}}
{{- define "kcagent.bytes" -}}
{{- if kindIs "string" . -}}
{{- $factors := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- mulf (float64 $number) (get $factors (trimPrefix $number .)) | int64 -}}
{{- else -}}
{{- int64 . -}}
{{- end -}}
{{- end -}}

{{/* 90 % of the memory limit in bytes, as the agent computes it from its cgroup; empty without one. */}}
{{- define "kcagent.goMemLimit" -}}
{{- with (.Values.resources.limits | default dict).memory -}}
{{- mulf (include "kcagent.bytes" .) 0.9 | int64 -}}
{{- end -}}
{{- end -}}

{{- define "kcagent.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "kcagent.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* A probe of a path. The kubelet has no password: with one, it can only open a connection. */}}
{{- define "kcagent.probe" -}}
{{- if .root.Values.http.basicAuthSecret -}}
tcpSocket:
  port: http
{{- else -}}
httpGet:
  path: {{ .path }}
  port: http
  scheme: {{ include "kcagent.scheme" .root | upper }}
{{- end -}}
{{- end -}}
