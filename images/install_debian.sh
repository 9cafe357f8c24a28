#!/bin/sh
# Install step of an offline image: Debian packages, no more than are named. Lists and archives stay in the
# builder's cache.
set -eu
export DEBIAN_FRONTEND=noninteractive
rm -f /etc/apt/apt.conf.d/docker-clean
trust=
if [ -s /run/secrets/ca-bundle ]; then
    trust="Acquire::https::CaInfo=/run/secrets/ca-bundle"
fi
apt() { apt-get -q -y ${trust:+-o "$trust"} -o APT::Keep-Downloaded-Packages=true "$@"; }

apt update
case $1 in
upgrade) apt upgrade ;;
# Only the programs: what their packages depend on is for a Debian system that boots.
extract)
    shift
    cd /tmp
    apt download "$@"
    for package in *.deb; do dpkg --extract "$package" "${TARGET:-/extracted}"; done
    rm -- *.deb
    ;;
*) apt install --no-install-recommends "$@" ;;
esac
