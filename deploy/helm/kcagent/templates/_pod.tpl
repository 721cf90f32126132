{{/* The pods of the StatefulSet and of the Deployment. */}}
{{- define "kcagent.pod" -}}
metadata:
  # A checksum of the ConfigMap is left out: the agent applies an edit without a restart.
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  labels:
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- include "kcagent.selectorLabels" . | nindent 4 }}
spec:
  serviceAccountName: {{ include "kcagent.serviceAccount" . }}
  automountServiceAccountToken: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "kcagent.podSecurityContext" . | nindent 4 }}
  terminationGracePeriodSeconds: {{ add .Values.shutdownTimeoutSeconds 10 }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- if .Values.topologySpreadConstraints }}
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
    {{- else }}
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "kcagent.selectorLabels" . | nindent 10 }}
    {{- end }}
  containers:
    - name: kcagent
      image: {{ include "kcagent.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - run
        - --config=/etc/kcagent/consumers.yaml
        - --listen=:{{ .Values.http.port }}
        - --shutdown-timeout={{ .Values.shutdownTimeoutSeconds }}s
        {{- if .Values.http.webConfigSecret }}
        - --web.config.file=/etc/kcagent-web/web-config.yaml
        {{- end }}
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- with include "kcagent.goMemLimit" . }}
        - name: GOMEMLIMIT
          value: {{ . | quote }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: http
          containerPort: {{ .Values.http.port }}
      # An outage of Kafka makes neither of them fail. /readyz is 200 once each consumer has
      # joined its group or failed to, so an update waits for the joins of a pod.
      livenessProbe:
        {{- include "kcagent.probe" (dict "root" . "path" "/healthz") | nindent 8 }}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        {{- include "kcagent.probe" (dict "root" . "path" "/readyz") | nindent 8 }}
        periodSeconds: 5
        timeoutSeconds: 5
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "kcagent.containerSecurityContext" . | nindent 8 }}
      volumeMounts:
        - name: data
          mountPath: /data
        # The folder: a subPath mount does not receive edits.
        - name: config
          mountPath: /etc/kcagent
          readOnly: true
        {{- range .Values.secrets }}
        - name: secret-{{ . | replace "." "-" }}
          mountPath: /etc/kcagent-secrets/{{ . }}
          readOnly: true
        {{- end }}
        {{- if .Values.http.webConfigSecret }}
        - name: web-config
          mountPath: /etc/kcagent-web
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    {{- if not .Values.persistence.enabled }}
    # The spool of objects: what it holds is read again from Kafka after a restart.
    - name: data
      emptyDir:
        sizeLimit: {{ .Values.persistence.size }}
    {{- end }}
    - name: config
      configMap:
        name: {{ include "kcagent.configMap" . }}
    {{- range .Values.secrets }}
    - name: secret-{{ . | replace "." "-" }}
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.http.webConfigSecret }}
    - name: web-config
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
