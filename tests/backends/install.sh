#!/bin/sh
# Installs with apt the servers (and Node) that the tests need and that no wheel on PyPI gives. What cannot be had is said loudly, and its
# tests are skipped; under CI that is a failure. The tests start servers of their own, whatever Debian does with these.
set -u
PATH="$PATH:/usr/sbin:/usr/lib/rabbitmq/bin"

missing() {
  command -v pgbouncer >/dev/null || printf 'pgbouncer '
  command -v mariadbd >/dev/null || printf 'mariadb-server '
  command -v rabbitmq-server >/dev/null || printf 'rabbitmq-server '
  command -v npm >/dev/null || printf 'npm '
  command -v chromium >/dev/null || printf 'chromium '
}

privileged() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt() {
  privileged env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 "$@" >/dev/null
}

wanted=$(missing)
[ -z "$wanted" ] && exit 0

if ! command -v apt-get >/dev/null; then
  reason="there is no apt-get here"
elif ! privileged true 2>/dev/null; then
  reason="that takes root, or sudo without a password"
else
  reason="apt-get failed three times"
  for try in 1 2 3; do
    echo "installing servers for the tests, try $try: $wanted"
    # Unquoted: one word for each package.
    # shellcheck disable=SC2086
    apt update && apt install -y --no-install-recommends $wanted && break
    sleep $((try * 5))
  done
fi

wanted=$(missing)
for package in $wanted; do
  echo "!!! NOT INSTALLED: $package ($reason); the tests that need it do not run" >&2
done
[ -z "$wanted" ] || [ -z "${CI:-}" ]
