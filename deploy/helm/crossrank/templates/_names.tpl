{{- define "crossrank.labels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "crossrank.allLabels" -}}
{{ include "crossrank.labels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "crossrank.name" -}}
{{ .root.Release.Name }}-{{ .part }}
{{- end }}

{{- define "crossrank.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "crossrank.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* Startup: up to 10 minutes for a bundle on a slow volume. */}}
{{- define "crossrank.probes" -}}
startupProbe:
  httpGet: {path: /startupz, port: metrics}
  periodSeconds: 5
  failureThreshold: 120
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 3
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end }}

{{- define "crossrank.settings" -}}
{{- range $name, $value := .settings }}
- name: {{ printf "%s%s" $.prefix ($name | upper) }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end }}

{{- define "crossrank.dnsPorts" -}}
- {port: {{ .Values.networkPolicy.dnsPort }}, protocol: UDP}
- {port: {{ .Values.networkPolicy.dnsPort }}, protocol: TCP}
{{- end }}
