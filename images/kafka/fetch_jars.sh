#!/bin/sh
# Build step: the jars of the project file $1 into the folder $2, by Maven.
set -eu

# Java reads certificates from a store of its own; what is added for this step goes with it.
added=/usr/local/share/ca-certificates/build
if [ -s /run/secrets/ca-bundle ]; then
    mkdir -p "$added"
    awk -v folder="$added" '/-----BEGIN CERT/ { n++; open = 1 }
        open { print > (folder "/" n ".crt") }
        /-----END CERT/ { open = 0; close(folder "/" n ".crt") }' /run/secrets/ca-bundle
    update-ca-certificates > /dev/null 2>&1
fi
mvn --quiet --batch-mode --file "$1" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$2"
if [ -d "$added" ]; then
    rm -rf "$added"
    update-ca-certificates --fresh > /dev/null 2>&1
fi
