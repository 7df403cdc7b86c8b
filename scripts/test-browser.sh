#!/bin/sh
# Tests the manager's page in headless Chromium, against a real manager fed by made-up fleets.
#
#   scripts/test-browser.sh [MANAGER]   the program to test, target/debug/manager unless given
#
# Installs Chromium (root and apt) and what package.json names (npm) where they are missing.
# What cannot be had is told loudly and the tests are skipped; with CI=true that is exit code 1.
set -eu

cd "$(dirname "$0")/.."
MANAGER=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/debug/manager}")
export MANAGER

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

[ -x "$MANAGER" ] || skip "there is no program $MANAGER"
cd manager/tests/browser
for module in playwright-core axe-core mermaid netjsongraph.js; do
    [ -d "node_modules/$module" ] && continue
    npm install --no-audit --no-fund --silent || skip "npm cannot install $module"
done
exec node --test --test-concurrency=1 --test-reporter=spec page.test.mjs exports.test.mjs scale.test.mjs
