#!/usr/bin/env bash
# e2e.sh [TEST-ARGUMENT…]: the tests on a real Kubernetes. Starts a cluster in
# namespaces of its own (processes, mounts, network), runs tests/e2e in it, and
# removes it, whatever happened. "e2e.sh shell" gives a shell in the cluster
# instead. With KUBECONFIG, the tests that need no hand in the nodes run
# against that cluster. RUNTIME=debian: with the machine's own containerd.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
cd "$repo"

built=${CARGO_TARGET_DIR:-target}/debug

# The test program of tests/e2e, built.
test_program() {
    cargo test --locked --quiet -p coracle-e2e --no-run --message-format=json 2>/dev/null |
        jq -r 'select(.executable != null and .target.name == "cluster") | .executable'
}

build() {
    timed "Building the programs" cargo build --locked -p coracle-device-plugin -p coracle-controller -p coracle
    timed "Building the tests" cargo test --locked -p coracle-e2e --no-run
}

# A docker-archive with busybox, for the plain pods of the tests.
busybox_image() {
    local dir=$1
    mkdir -p "$dir/root/bin"
    cp "$(command -v busybox)" "$dir/root/bin/busybox"
    for applet in sh sleep cat ls id stat dd; do ln -s busybox "$dir/root/bin/$applet"; done
    tar -C "$dir/root" --owner=0 --group=0 -cf "$dir/layer.tar" bin
    jq -n --arg layer "sha256:$(sha256sum "$dir/layer.tar" | cut -d' ' -f1)" '{
        architecture: "amd64", os: "linux", config: {Env: ["PATH=/bin"]},
        rootfs: {type: "layers", diff_ids: [$layer]}}' >"$dir/config.json"
    jq -n '[{Config: "config.json", Layers: ["layer.tar"], RepoTags: ["coracle.dev/e2e-busybox:1"]}]' \
        >"$dir/manifest.json"
    tar -C "$dir" -cf "$E2E/images/busybox.tar" manifest.json config.json layer.tar
}

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
    for owner in /tmp/coracle-e2e.*/owner; do
        if [[ ! -e $owner ]] || kill -0 "$(<"$owner")" 2>/dev/null; then continue; fi
        say "Removing what a killed run left in ${owner%/*}"
        remove "${owner%/*}"
    done
}

end() {
    local status=$?
    trap '' INT TERM HUP
    if [[ -n ${init:-} ]]; then
        kill -KILL "$init" 2>/dev/null || true
        while [[ -e /proc/$init ]]; do sleep 0.05; done
    fi
    if ((status == 0)); then
        remove "$E2E"
    else
        remove "$E2E" keep-logs
        say "The logs of the cluster are in $E2E/logs"
    fi
}

if [[ -n ${KUBECONFIG:-} ]]; then
    timed "Building the tests" cargo test --locked -p coracle-e2e --no-run
    CORACLE_E2E=existing exec "$(test_program)" "$@"
fi

((EUID == 0)) || die "a cluster of our own needs root; or name one that exists: make e2e KUBECONFIG=…"
programs=$("$repo/scripts/kubernetes.sh")
"$repo/scripts/build-images.sh"
build
remove_leftovers
E2E=$(mktemp -d /tmp/coracle-e2e.XXXXXX)
export E2E
trap end EXIT
trap 'exit 130' INT TERM HUP
echo $$ >"$E2E/owner"
mkdir -p "$E2E/images"
cp --dereference "$cache"/images/*.tar "$E2E/images/"
busybox_image "$(mktemp -d "$E2E/busybox.XXXX")"
pause_image=coracle.dev/pause:$("$built/coracle" --version | cut -d' ' -f2)
export pause_image

# Tests wait more than they work.
command=("$(test_program)" --test-threads 4 "$@")
[[ ${1:-} != shell ]] || command=("${SHELL:-/bin/bash}" -i)
say "Starting the cluster"
bin=$(realpath "$built")
export PATH=$programs:$PATH:$bin CORACLE_E2E=own RUST_BACKTRACE=${RUST_BACKTRACE:-0}
# The last process of the namespaces ends with the first of them, and that one
# with this script, even when it is killed.
setpriv --pdeathsig KILL unshare --pid --fork --kill-child=KILL --mount-proc --mount --net \
    "$repo/tests/e2e/cluster/init.sh" "${command[@]}" <&0 &
unshare=$!
until init=$(pgrep --parent "$unshare"); do kill -0 "$unshare" 2>/dev/null || break; done
wait "$unshare"
