#!/bin/bash
# KAFKA_* becomes server.properties as in the official image, an empty volume is formatted, then the broker runs.
set -euo pipefail

properties=/tmp/server.properties
java=(java -cp "/etc/kafka/docker:/opt/kafka/libs/*")

# KAFKA_NODE_ID → node.id; two underscores stand for one, three for a hyphen.
awk 'BEGIN {
    for (name in ENVIRON) {
        if (name !~ /^KAFKA_/ || name ~ /^KAFKA_(HEAP_OPTS|OPTS|VERSION|JMX_.*|LOG4J_.*|GC_LOG_OPTS|JVM_PERFORMANCE_OPTS)$/) continue
        key = tolower(substr(name, 7))
        gsub(/___/, "-", key); gsub(/__/, "\001", key); gsub(/_/, ".", key); gsub(/\001/, "_", key)
        print key "=" ENVIRON[name]
    }
}' | sort > "$properties"
if [ ! -s "$properties" ]; then
    echo "No KAFKA_… variable is set: this image has no defaults; set at least KAFKA_PROCESS_ROLES and KAFKA_NODE_ID." >&2
    exit 2
fi
if [ -z "${CLUSTER_ID:-}" ]; then
    echo "CLUSTER_ID is not set: give the cluster an identity, 22 characters of URL-safe base64." >&2
    exit 2
fi
if [ -z "${KAFKA_LOG_DIRS:-}" ]; then
    echo "KAFKA_LOG_DIRS is not set: name the folder of the log, /var/lib/kafka/data." >&2
    exit 2
fi

if [ ! -f "${KAFKA_LOG_DIRS%%,*}/meta.properties" ]; then
    "${java[@]}" kafka.tools.StorageTool format --cluster-id "$CLUSTER_ID" --ignore-formatted --config "$properties"
fi

# shellcheck disable=SC2086
exec "${java[@]}" ${KAFKA_HEAP_OPTS:--Xmx1G -Xms1G} -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 \
    -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true \
    ${KAFKA_OPTS:-} kafka.Kafka "$properties"
