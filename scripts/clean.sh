#!/usr/bin/env bash
# clean.sh [cache]: removes what was built and what a killed run left behind;
# with "cache", the caches outside the checkout.
set -euo pipefail
# shellcheck source=scripts/leftovers.sh
source "$(dirname "$0")/leftovers.sh"
cd "$repo"

remove_leftovers
remove_kept_logs
if [[ -x target/debug/coracle ]]; then
    target/debug/coracle clean
fi
if [[ ${1:-} == cache ]]; then
    say "Removing $cache"
    rm -rf -- "$cache"
else
    say "Removing $repo/target"
    cargo clean --quiet
fi
