# What the demo's scripts share: steps told with their time, and clean-up that
# runs on every way out. Sourced, not run.
# shellcheck shell=bash source-path=SCRIPTDIR

# shellcheck source=../scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

# The script's start, for the times in front of its lines.
started=${EPOCHREALTIME/[.,]/}

# Milliseconds since the script's start.
elapsed_ms() {
    local now=${EPOCHREALTIME/[.,]/}
    echo $(((now - started) / 1000))
}

# Milliseconds as seconds with a decimal.
seconds() {
    printf '%d.%d s' $(($1 / 1000)) $(($1 % 1000 / 100))
}

# One line about what happens now, with the time since the start.
step() {
    printf '    %7s  %s\n' "$(seconds "$(elapsed_ms)")" "$*" >&2
}

# need COMMAND PACKAGE…: pairs of a command and the Debian package it is in.
need() {
    local missing=()
    while (($# > 0)); do
        # Some of them are in directories that only root's PATH holds.
        PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || missing+=("$2")
        shift 2
    done
    if ((${#missing[@]} > 0)); then
        die "missing programs; install them with: apt-get install --no-install-recommends ${missing[*]}"
    fi
}

# What has to be undone, newest last. `undo COMMAND ARG…` adds to it.
UNDO=()

undo() {
    UNDO+=("$(printf '%q ' "$@")")
}

# Undoes the newest. Signals must be held or ignored, here and below.
undo_last() {
    local last=${UNDO[-1]}
    unset 'UNDO[-1]'
    (trap '' INT TERM HUP && eval "$last")
}

# Undoes everything, newest first. One failure does not keep the rest from
# being undone, but it is told.
undo_all() {
    local failed=0
    while ((${#UNDO[@]} > 0)); do
        if ! undo_last; then
            printf '%s: clean-up failed, see above\n' "${0##*/}" >&2
            failed=1
        fi
    done
    return $failed
}

# Calls `undo_all` however the script ends.
clean_up_at_exit() {
    # shellcheck disable=SC2154 # assigned in the trap itself
    trap 'status=$?; trap "" INT TERM HUP; undo_all || status=1; exit "$status"' EXIT
    let_signals
}

# While something is made that has to be undone, a signal waits until it has
# been noted: between `hold_signals` and `let_signals`. Signals become an exit,
# so that there is one way out.
pending=0

hold_signals() {
    trap 'pending=130' INT
    trap 'pending=143' TERM HUP
}

let_signals() {
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    ((pending == 0)) || exit "$pending"
}

# make_work DIR: sets $work to a new directory in DIR that goes at the end.
make_work() {
    hold_signals
    work=$(trap '' INT TERM HUP && mktemp -d "$1/work.XXXXXX")
    undo rm -rf --one-file-system "$work"
    let_signals
}

# attach FILE OPTION…: sets $device to a loop device of FILE.
attach() {
    hold_signals
    device=$(trap '' INT TERM HUP && losetup --find --show "${@:2}" "$1")
    undo losetup -d "$device"
    let_signals
    # Whoever had this loop device before may have left it read-only.
    blockdev --setrw "$device"
}
