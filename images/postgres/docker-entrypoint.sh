#!/bin/sh
# Starts the server as `postgres`; an empty volume is made a cluster first.
set -eu

refuse() { echo "$1" >&2; exit 2; }

case ${1:-postgres} in
-*) set -- postgres "$@" ;;
postgres) ;;
*) exec "$@" ;;
esac

for name in POSTGRES_USER POSTGRES_DB POSTGRES_INITDB_WALDIR POSTGRES_HOST_AUTH_METHOD; do
    [ -z "$(printenv "$name" || true)" ] || refuse "$name is not known to this image: unset it, or use the official one."
done

if [ "$(id -u)" = 0 ]; then
    install --directory --owner=postgres --group=postgres --mode=3777 /run/postgresql
    install --directory --owner=postgres --group=postgres --mode=0700 "$PGDATA"
    find "$PGDATA" \! -user postgres -exec chown postgres:postgres {} +
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

if [ -s "$PGDATA/PG_VERSION" ]; then
    found=$(cat "$PGDATA/PG_VERSION")
    [ "$found" = "$PG_MAJOR" ] || refuse \
        "The volume at $PGDATA was made by PostgreSQL $found and this is PostgreSQL $PG_MAJOR: start it with that version's image, dump it, and restore the dump into a new volume."
else
    if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
        [ -z "${POSTGRES_PASSWORD:-}" ] || refuse "POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are both set: keep one of them."
        [ -r "$POSTGRES_PASSWORD_FILE" ] || refuse "POSTGRES_PASSWORD_FILE names $POSTGRES_PASSWORD_FILE, which cannot be read here."
        POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
    fi
    [ -n "${POSTGRES_PASSWORD:-}" ] || refuse "POSTGRES_PASSWORD is not set: set the superuser's password, or POSTGRES_PASSWORD_FILE."
    password=$(mktemp)
    printf '%s\n' "$POSTGRES_PASSWORD" > "$password"
    # Options in one variable, as the official image takes them.
    # shellcheck disable=SC2086
    initdb --username=postgres --pwfile="$password" ${POSTGRES_INITDB_ARGS:-} || { rm -f "$password"; exit 1; }
    rm -f "$password"
    printf '\nhost all all all scram-sha-256\n' >> "$PGDATA/pg_hba.conf"
fi
unset POSTGRES_PASSWORD POSTGRES_PASSWORD_FILE
exec "$@"
