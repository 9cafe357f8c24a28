#!/bin/sh
# Install step of an image: the hashed lock $1 into /opt/venv, wheels only.
set -eu

# A CA bundle given to the build is trusted here; it is mounted for this step and part of no layer.
if [ -s /run/secrets/ca-bundle ]; then
    export PIP_CERT=/run/secrets/ca-bundle
fi

# pip itself stays outside what the image takes over.
python3 -m venv /opt/pip
python3 -m venv --without-pip /opt/venv
/opt/pip/bin/pip --python /opt/venv/bin/python install --quiet --disable-pip-version-check --root-user-action ignore \
    --no-compile --only-binary :all: --no-deps --require-hashes --requirement "$1"

# Packages' own tests: a tenth of the image, and nothing imports them. Evidently's are checks that its reports use.
find /opt/venv/lib -type d -name tests -not -path '*/evidently/*' -prune -exec rm -rf {} +

# Compiled now, since no user of the image may write there; unchecked, so that a start reads no source at all.
/opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib || true
