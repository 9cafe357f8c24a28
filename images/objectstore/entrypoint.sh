#!/bin/sh
# Starts `weed` as `seaweed`; `server` gets the official image's defaults, which the arguments after them override.
set -eu
if [ "$(id -u)" = 0 ]; then
    find /data \! -user seaweed -exec chown seaweed:seaweed {} +
    exec setpriv --reuid=seaweed --regid=seaweed --init-groups "$0" "$@"
fi
if [ "${1:-}" = server ]; then
    shift
    set -- server -dir=/data -volume.max=0 -master.volumePreallocate -master.volumeSizeLimitMB=1024 "$@"
fi
exec /usr/bin/weed -logtostderr=true "$@"
