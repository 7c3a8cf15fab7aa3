# Sourced: what the clusters of e2e.sh leave behind, and how it is removed.
# shellcheck shell=bash
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# The directory of a cluster begins like this.
clusters=/tmp/coracle-e2e.

# The loop devices on files below DIR, deleted ones too.
loops_below() {
    losetup --list --noheadings --output NAME,BACK-FILE |
        awk -v dir="$1/" 'index($2, dir) == 1 {print $1}'
}

# The loop devices on a device: the kubelet puts one on each raw block volume.
# By inode: the path it used was in a mount namespace that is gone.
loops_on() {
    losetup --list --noheadings --output NAME,BACK-INO,BACK-MAJ:MIN |
        awk -v file="$(stat --format '%i %Hd:%Ld' "$1")" '$2 " " $3 == file {print $1}'
}

# Everything that outlives the namespaces: loop devices, cgroups, files.
remove() {
    local dir=$1 device upper hierarchy
    for device in $(loops_below "$dir"); do
        for upper in $(loops_on "$device"); do losetup --detach "$upper"; done
        # Gone already when a test had let go of it.
        losetup --detach "$device" 2>/dev/null || true
    done
    while read -r hierarchy; do
        [[ ! -d $hierarchy/${dir##*/} ]] || find "$hierarchy/${dir##*/}" -depth -type d -exec rmdir {} +
    done < <(awk '$3 ~ /^cgroup/ {print $2}' /proc/mounts)
    if [[ ${2:-} == keep-logs ]]; then
        find "$dir" -mindepth 1 -maxdepth 1 ! -name logs -exec rm -rf --one-file-system {} +
    else
        rm -rf --one-file-system "$dir"
    fi
}

# What a killed run left: its owner is no more.
remove_leftovers() {
    local owner
    for owner in "$clusters"*/owner; do
        if [[ ! -e $owner ]] || kill -0 "$(<"$owner")" 2>/dev/null; then continue; fi
        say "Removing what a killed run left in ${owner%/*}"
        remove "${owner%/*}"
    done
}

# What runs that failed have kept.
remove_kept_logs() {
    local logs
    for logs in "$clusters"*/logs; do
        # The others are in use.
        [[ -d $logs && $(ls -A "${logs%/*}") == logs ]] || continue
        say "Removing $logs"
        rm -rf --one-file-system "${logs%/*}"
    done
}
