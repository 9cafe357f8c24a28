#!/bin/sh
# Start of every image: secrets out of files, no default secret in production, then the command itself.
set -eu

for name in $(awk 'BEGIN { for (n in ENVIRON)
        if (n ~ /^[A-Za-z_][A-Za-z0-9_]*_FILE$/ && ENVIRON[n] ~ /^\/run\/secrets\//) print substr(n, 1, length(n) - 5) }'); do
    file=$(printenv "${name}_FILE")
    if [ -n "$(printenv "$name" || true)" ]; then
        echo "$name and ${name}_FILE are both set: keep one of them." >&2
        exit 2
    fi
    if [ ! -f "$file" ] || [ ! -r "$file" ]; then
        echo "${name}_FILE names $file, which cannot be read here: give the service that secret." >&2
        exit 2
    fi
    value=$(cat "$file")
    export "$name=$value"
done

if [ "${APP_ENV:-}" = production ]; then
    defaults=$(awk 'BEGIN { for (n in ENVIRON) if (index(ENVIRON[n], "change-me")) print n }' | sort | tr '\n' ' ')
    if [ -n "$defaults" ]; then
        echo "APP_ENV=production refuses default secrets: set ${defaults% } to values of your own." >&2
        exit 2
    fi
fi

exec "$@"
