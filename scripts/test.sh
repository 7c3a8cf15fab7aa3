#!/usr/bin/env bash
# Runs every test that this machine can run. A test that cannot run prints
# "skipped: why"; those lines are gathered at the end.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
cd "$repo"

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Into the cache, from where the demo takes it.
guest_disk() {
    local work
    work=$(mktemp -d)
    demo/guest-disk.sh "$work/disk.img"
    rm -rf "$work"
}

"$repo/scripts/build-images.sh" --importer
# The machine tests drive the programs as a user would.
timed "Building the programs" cargo build --workspace --bins
timed "Making the disk of the demo's guest" guest_disk
timed "Building the tests" cargo test --workspace --no-run
say "Running the tests (the log is shown when one fails)"
# The whole output is kept; a line per test binary and every failure are shown.
set +e
cargo test --workspace --no-fail-fast -- --show-output 2>&1 | tee "$log" |
    grep --line-buffered -E '^(test result|     Running|   Doc-tests|test .* FAILED|error)'
status=${PIPESTATUS[0]}
set -e
if ((status != 0)); then
    sed -n '/^failures:/,/^test result/p' "$log" >&2
    die "tests failed"
fi

passed=$(awk '/^test result/ {n += $4} END {print n + 0}' "$log")
mapfile -t skipped < <(grep -E '^skipped: ' "$log" | sort | uniq -c)
say "$passed tests passed"
if ((${#skipped[@]} > 0)); then
    say "Skipped on this machine:"
    printf '%s\n' "${skipped[@]}"
else
    say "Nothing was skipped"
fi
