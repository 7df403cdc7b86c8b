#!/bin/sh
# Tests the manager's page in headless Chromium, against real managers: fed by made-up fleets, and by a
# real mesh in network namespaces (root, and what test-deps.sh installs).
#
#   scripts/test-browser.sh [FOLDER [TEST...]]   the programs to test, target/debug unless given, and
#                                                files of manager/tests/browser, all unless given
#
# Installs Chromium (root and apt) and what package.json names (npm) where they are missing.
# What cannot be had is told loudly and the tests are skipped; with CI=true that is exit code 1.
set -eu

cd "$(dirname "$0")/.."
programs=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/debug}")
[ $# = 0 ] || shift
MANAGER=$programs/manager
LAB=$programs/lab
export MANAGER LAB

skip() {
    echo "SKIPPED: the page is not tested in a browser: $1" >&2
    [ "${CI:-}" = true ] && exit 1
    exit 0
}

for tool in node:nodejs npm:npm chromium:chromium; do
    command -v "${tool%%:*}" >/dev/null && continue
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${tool##*:}" fonts-dejavu-core >/dev/null; }; then
            skip "${tool##*:} cannot be installed"
        fi
    else
        skip "${tool%%:*} is missing (Debian package ${tool##*:})"
    fi
done
CHROMIUM=$(command -v chromium)
export CHROMIUM

for program in manager agent lab; do
    [ -x "$programs/$program" ] || skip "there is no program $programs/$program"
done
cd manager/tests/browser
for module in playwright-core axe-core mermaid netjsongraph.js; do
    [ -d "node_modules/$module" ] && continue
    npm install --no-audit --no-fund --silent || skip "npm cannot install $module"
done
# One after the other: figures are measured, and two browsers would share the processors.
[ $# -gt 0 ] || set -- page.test.mjs alarms.test.mjs states.test.mjs mesh.test.mjs exports.test.mjs scale.test.mjs
exec node --test --test-concurrency=1 --test-reporter=spec "$@"
