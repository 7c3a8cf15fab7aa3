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
    log='' pid=''
    trap 'rm -f "$log"' EXIT
    trap '[[ -z $pid ]] || { kill -- "-$pid"; wait "$pid"; }; exit 130' INT TERM HUP
    log=$(mktemp)
    say "$text"
    # A process group of its own, so that it can be ended as a whole.
    set -m
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    set +m
    next=$((start + 15))
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        if ((SECONDS >= next)); then
            printf '    %ds: %s\n' $((SECONDS - start)) "$(tail -n 1 "$log" | cut -c1-100)" >&2
            next=$((next + 15))
        fi
    done
    if ! wait "$pid"; then
        tail -n 40 "$log" >&2
        die "$text: failed"
    fi
    printf '    done in %d s\n' $((SECONDS - start)) >&2
)
