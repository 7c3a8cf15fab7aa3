# Sourced by the other scripts: where things are, and how they speak.
# shellcheck shell=bash

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/coracle
export repo cache

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# timed TEXT COMMAND…: says TEXT, runs the command with its output in a log,
# and says how long it took. A command that fails shows the end of its log. A
# signal ends the command and all that it started.
timed() (
    text=$1 start=$SECONDS
    shift
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    say "$text"
    # A process group of its own, so that it can be ended as a whole.
    set -m
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    set +m
    trap 'kill -- "-$pid"; wait "$pid"; exit 130' INT TERM HUP
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        if (((SECONDS - start) % 15 == 14)) && kill -0 "$pid" 2>/dev/null; then
            printf '    %ds: %s\n' $((SECONDS - start)) "$(tail -n 1 "$log" | cut -c1-100)" >&2
        fi
    done
    if ! wait "$pid"; then
        tail -n 40 "$log" >&2
        die "$text: failed"
    fi
    printf '    done in %d s\n' $((SECONDS - start)) >&2
)
