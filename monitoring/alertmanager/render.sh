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

# The hours of one severity in ALERT_QUIET_HOURS, such as 20:00-08:00; nothing where it has none.
quiet_hours() {
    printf '%s' "${ALERT_QUIET_HOURS:-}" | tr ',' '\n' | sed -n "s/^ *$1=\(.*[^ ]\) *\$/\1/p"
}

hour='\([01][0-9]\|2[0-3]\):[0-5][0-9]'
printf '%s' "${ALERT_QUIET_HOURS:-}" | tr ',' '\n' | grep -v '^ *$' |
    grep -qv "^ *\(medium\|high\)=$hour-$hour *\$" &&
    refuse "ALERT_QUIET_HOURS=$ALERT_QUIET_HOURS is not like medium=20:00-08:00,high=23:00-06:00; critical alerts have no quiet hours."

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
  routes:
    # The sign of life: to who must notice when it stops, and to nobody else.
    - matchers: ['alertname="Watchdog"']
      receiver: heartbeat
      group_wait: 1s
      group_interval: 1m
      repeat_interval: 1m
YAML
    if [ -n "${ALERT_RECORD_URL:-}" ]; then
        cat <<YAML
    - receiver: record
      group_wait: 1s
      group_interval: 15s
      continue: true
YAML
    fi
    for severity in medium high; do
        [ -z "$(quiet_hours $severity)" ] || cat <<YAML
    - matchers: ['severity="$severity"']
      receiver: people
      mute_time_intervals: [quiet-$severity]
YAML
    done
    # A route that goes on to its siblings keeps the alert from the top receiver: the last one is for everybody.
    echo "    - receiver: people"
    if [ -n "${ALERT_QUIET_HOURS:-}" ]; then
        echo "time_intervals:"
        for severity in medium high; do
            hours=$(quiet_hours $severity)
            [ -n "$hours" ] || continue
            begin=${hours%-*} end=${hours#*-}
            echo "  - name: quiet-$severity"
            echo "    time_intervals:"
            echo "      - location: $(quoted "${ALERT_TIMEZONE:-UTC}")"
            echo "        times:"
            if [ "$begin" \< "$end" ]; then
                echo "          - { start_time: '$begin', end_time: '$end' }"
            else
                echo "          - { start_time: '$begin', end_time: '24:00' }"
                [ "$end" = 00:00 ] || echo "          - { start_time: '00:00', end_time: '$end' }"
            fi
        done
    fi
    echo "receivers:"
    echo "  - name: heartbeat"
    if [ -n "${ALERT_RECORD_URL:-}${ALERT_HEARTBEAT_URL:-}" ]; then
        echo "    webhook_configs:"
        for url in ${ALERT_RECORD_URL:-} ${ALERT_HEARTBEAT_URL:-}; do
            echo "      - { url: $(quoted "$url"), send_resolved: false }"
        done
    fi
    if [ -n "${ALERT_RECORD_URL:-}" ]; then
        cat <<YAML
  - name: record
    webhook_configs:
      - { url: $(quoted "$ALERT_RECORD_URL"), send_resolved: true }
YAML
    fi
    echo "  - name: people"
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
