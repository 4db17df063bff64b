#!/bin/sh
# Usage: system-packages.sh demo|test
# Installs the Debian packages that the laboratory (demo) and the suite's foreign peers (test) need, where it may:
# as root and with apt-get. Elsewhere it says what is missing and lets the caller go on without.
set -eu
case $1 in
    demo) wanted="ip:iproute2 nft:nftables unshare:util-linux" ;;
    test) wanted="ip:iproute2 nft:nftables unshare:util-linux turnserver:coturn chromium:chromium haproxy:haproxy tshark:tshark" ;;
    *) echo "usage: system-packages.sh demo|test" >&2; exit 2 ;;
esac
PATH=$PATH:/usr/sbin:/sbin
missing=""
for pair in $wanted; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "system packages missing:$missing. What needs them is skipped; as root: apt-get install$missing" >&2
    exit 0
fi
echo "installing system packages:$missing" >&2
# Debian would start coturn as a service the moment it is installed; the suite runs its own.
case $missing in
    *coturn*) [ -d /run/systemd/system ] && systemctl mask --quiet coturn.service || true ;;
esac
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >/dev/null ||
    echo "apt-get could not install$missing: what needs them is skipped" >&2
