#!/usr/bin/env bash
# Runs every fuzz target for some seconds (30 unless told): scripts/fuzz.sh [SECONDS] [TARGET...]
# Needs cargo-fuzz (cargo install cargo-fuzz). The sanitizers' flags are unstable ones, so the
# stable compiler is told to take them.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-30}
shift || true
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "cargo-fuzz is missing; run: cargo install cargo-fuzz" >&2
    exit 1
fi
export RUSTC_BOOTSTRAP=1
targets=("$@")
if [ ${#targets[@]} = 0 ]; then mapfile -t targets < <(cargo fuzz list); fi
for target in "${targets[@]}"; do
    echo "== $target"
    mkdir -p "fuzz/corpus/$target"
    cargo fuzz run "$target" -- -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=1024 \
        -print_final_stats=1 2>&1 | grep -E "panicked|ERROR|SUMMARY|stat::number_of_executed_units|stat::peak_rss" || true
    [ "${PIPESTATUS[0]}" = 0 ]
done
