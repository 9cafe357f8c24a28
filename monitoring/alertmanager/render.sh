#!/bin/sh
# Alertmanager reads no environment: this writes its configuration from the variables of .env.
# usage: render.sh FOLDER [COMMAND …]      FOLDER should not outlive the container; then COMMAND takes over.
set -eu
umask 077
folder=$1
shift

refuse() {
    echo "$1" >&2
    exit 2
}

# NAME_FILE=/run/secrets/… stands for NAME.
for name in SMTP_PASSWORD SLACK_WEBHOOK_URL; do
    eval "file=\${${name}_FILE:-}"
    if [ -n "$file" ]; then
        [ -r "$file" ] || refuse "${name}_FILE: $file cannot be read."
        eval "$name=\$(cat \"\$file\")"
    fi
done

# A YAML string in single quotes, whatever it holds.
quoted() {
    printf "'%s'" "$(printf '%s' "$1" | sed "s/'/''/g")"
}

email() {
    [ -n "${SMTP_HOST:-}" ] && [ -n "${ALERT_EMAIL_RECIPIENTS:-}" ]
}

case ${SMTP_SECURITY:-starttls} in
starttls) tls=true ;;
none) tls=false ;;
ssl)
    tls=true
    [ "${SMTP_PORT:-587}" = 465 ] ||
        refuse "SMTP_SECURITY=ssl: Alertmanager does so on port 465 only; set SMTP_PORT=465 or SMTP_SECURITY=starttls."
    ;;
*) refuse "SMTP_SECURITY=$SMTP_SECURITY is none of starttls, ssl and none." ;;
esac

case ${ALERT_REPEAT_MINUTES:-60} in
*[!0-9]* | 0) refuse "ALERT_REPEAT_MINUTES=$ALERT_REPEAT_MINUTES is no number of minutes." ;;
esac

mkdir -p "$folder"
printf '%s' "${SMTP_PASSWORD:-}" >"$folder/smtp-password"
printf '%s' "${SLACK_WEBHOOK_URL:-}" >"$folder/slack-webhook"

{
    cat <<YAML
route:
  receiver: people
  group_by: [alertname]
  group_wait: 30s
  group_interval: 5m
  repeat_interval: ${ALERT_REPEAT_MINUTES:-60}m
receivers:
  - name: people
YAML
    if email; then
        cat <<YAML
    email_configs:
      - to: $(quoted "$ALERT_EMAIL_RECIPIENTS")
        from: $(quoted "${ALERT_EMAIL_FROM:-fraud-platform@localhost}")
        smarthost: $(quoted "$SMTP_HOST:${SMTP_PORT:-587}")
        require_tls: $tls
        send_resolved: true
YAML
        if [ -n "${SMTP_USER:-}" ]; then
            cat <<YAML
        auth_username: $(quoted "$SMTP_USER")
        auth_password_file: $(quoted "$folder/smtp-password")
YAML
        fi
    fi
    if [ -n "${SLACK_WEBHOOK_URL:-}" ]; then
        cat <<YAML
    slack_configs:
      - api_url_file: $(quoted "$folder/slack-webhook")
        send_resolved: true
        title: '{{ if eq .Status "resolved" }}[resolved]{{ else }}[{{ .CommonLabels.severity }}]{{ end }} {{ .CommonAnnotations.summary }}'
        text: '{{ range .Alerts }}{{ .Annotations.description }} Runbook: {{ .Annotations.runbook }}{{ "\n" }}{{ end }}'
YAML
    fi
} >"$folder/alertmanager.yml"

email || [ -n "${SLACK_WEBHOOK_URL:-}" ] ||
    echo "Neither SMTP_HOST with ALERT_EMAIL_RECIPIENTS nor SLACK_WEBHOOK_URL is set: alerts are shown here and sent nowhere." >&2

[ $# = 0 ] || exec "$@"
