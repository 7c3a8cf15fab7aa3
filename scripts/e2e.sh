#!/usr/bin/env bash
# e2e.sh [TEST-ARGUMENT…]: the tests on a real Kubernetes. Starts a cluster in
# namespaces of its own (processes, mounts, network), runs tests/e2e in it, and
# removes it, whatever happened. "e2e.sh shell" gives a shell in the cluster
# instead, and "e2e.sh with COMMAND…" runs a command in it. With KUBECONFIG, the
# tests that need no hand in the nodes run against that cluster. RUNTIME=debian:
# with the machine's own containerd.
#
# Two suites, each in a cluster of its own, one after the other: "cluster",
# where Coracle's parts are programs in the tests' hands, and "install", where
# they are what deploy/ installs. A node has one place for a device plugin.
# Without arguments the controller's tests, which need an API server only, run
# before them.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
# shellcheck source=scripts/leftovers.sh
source "$(dirname "$0")/leftovers.sh"
cd "$repo"

built=${CARGO_TARGET_DIR:-target}/debug
suites=(cluster install)
declare -A test_programs

# Where the built test programs of tests/e2e are, by suite.
find_test_programs() {
    local suite program
    while read -r suite program; do test_programs[$suite]=$program; done < <(
        cargo test --locked --quiet -p coracle-e2e --no-run --message-format=json 2>/dev/null |
            jq -r 'select(.executable != null) | "\(.target.name) \(.executable)"'
    )
}

# Keeps the suites that have a test which the arguments name.
select_suites() {
    local suite tests selected=()
    for suite in "${suites[@]}"; do
        tests=$("${test_programs[$suite]}" --list --format terse "$@")
        [[ $tests != *': test'* ]] || selected+=("$suite")
    done
    ((${#selected[@]} > 0)) || die "no test is called like that: $*"
    suites=("${selected[@]}")
}

build() {
    timed "Building the programs" cargo build --locked -p coracle-device-plugin -p coracle-controller \
        -p coracle -p coracle-test-csi
    timed "Building the tests" cargo test --locked -p coracle-e2e --no-run
}

# A docker-archive with busybox, for the plain pods of the tests.
busybox_image() {
    local dir=$1
    mkdir -p "$dir/root/bin"
    cp "$(command -v busybox)" "$dir/root/bin/busybox"
    for applet in sh sleep cat ls id stat dd env; do ln -s busybox "$dir/root/bin/$applet"; done
    tar -C "$dir/root" --owner=0 --group=0 -cf "$dir/layer.tar" bin
    jq -n --arg layer "sha256:$(sha256sum "$dir/layer.tar" | cut -d' ' -f1)" '{
        architecture: "amd64", os: "linux", config: {Env: ["PATH=/bin"]},
        rootfs: {type: "layers", diff_ids: [$layer]}}' >"$dir/config.json"
    jq -n '[{Config: "config.json", Layers: ["layer.tar"], RepoTags: ["coracle.dev/e2e-busybox:1"]}]' \
        >"$dir/manifest.json"
    tar -C "$dir" -cf "$E2E/images/busybox.tar" manifest.json config.json layer.tar
}

# Ends the cluster that runs, if one does; its logs stay when a test failed.
tear_down() {
    local status=$1
    if [[ -n ${init:-} ]]; then
        kill -KILL "$init" 2>/dev/null || true
        while [[ -e /proc/$init ]]; do sleep 0.05; done
        init=''
    fi
    [[ -n ${E2E:-} ]] || return 0
    if ((status == 0)); then
        remove "$E2E"
    else
        remove "$E2E" keep-logs
        say "The logs of the cluster are in $E2E/logs"
    fi
    E2E=''
}

# shellcheck disable=SC2317 # the trap calls it
end() {
    local status=$?
    trap '' INT TERM HUP
    tear_down "$status"
}

# in_cluster COMMAND…: runs the command in a new cluster; $ended is its end.
in_cluster() {
    ended=0
    E2E=$(mktemp -d "${clusters}XXXXXX")
    export E2E
    echo $$ >"$E2E/owner"
    mkdir -p "$E2E/images"
    cp --dereference "$cache"/images/*.tar "$E2E/images/"
    busybox_image "$(mktemp -d "$E2E/busybox.XXXX")"
    # As it is installed: kubectl finds it by its name.
    mkdir "$E2E/plugins"
    ln -s "$(realpath "$built")/coracle" "$E2E/plugins/kubectl-coracle"
    # The last process of the namespaces ends with the first of them, and that
    # one with this script, even when it is killed.
    PATH=$PATH:$E2E/plugins setpriv --pdeathsig KILL unshare --pid --fork --kill-child=KILL --mount-proc --mount --net \
        "$repo/tests/e2e/cluster/init.sh" "$@" <&0 &
    unshare=$!
    until init=$(pgrep --parent "$unshare"); do kill -0 "$unshare" 2>/dev/null || break; done
    wait "$unshare" || ended=$?
    tear_down "$ended"
}

# in_existing COMMAND…: runs the command on the cluster of $KUBECONFIG.
# shellcheck disable=SC2317 # run_suites calls it by its name
in_existing() {
    ended=0
    CORACLE_E2E=existing "$@" || ended=$?
}

# run_suites WHERE TEST-ARGUMENT…: all of them, also after one failed; $ended
# is not 0 then.
run_suites() {
    local where=$1 suite failed=0
    shift
    for suite in "${suites[@]}"; do
        say "Running the suite \"$suite\""
        # Tests wait more than they work.
        "$where" "${test_programs[$suite]}" --test-threads 4 "$@"
        ((ended == 0)) || failed=$ended
    done
    ended=$failed
}

# Each test has an API server of its own.
test_controller() {
    say "Running the controller's tests on an API server"
    KUBE_BIN=$programs:$PATH cargo test --locked -p coracle-controller --test cluster ||
        die "the controller's tests failed"
}

if [[ -n ${KUBECONFIG:-} ]]; then
    timed "Building the tests" cargo test --locked -p coracle-e2e --no-run
    find_test_programs
    select_suites "$@"
    run_suites in_existing "$@"
    exit "$ended"
fi

((EUID == 0)) || die "a cluster of our own needs root; or name one that exists: make e2e KUBECONFIG=…"
programs=$("$repo/scripts/kubernetes.sh")
build
find_test_programs
instead=()
tests=''
case ${1:-} in
    shell) instead=("${SHELL:-/bin/bash}" -i) ;;
    with) instead=("${@:2}") ;;
    *)
        select_suites "$@"
        tests=$("${test_programs[cluster]}" --list --format terse "$@")
        ;;
esac
# CSI's own controllers take minutes, once, and only the tests of storage need
# them.
if [[ ${1:-} == shell || $tests == *storage::* ]]; then
    programs+=:$("$repo/scripts/kubernetes.sh" csi-provisioner csi-resizer)
fi
# The controller's image takes minutes after a change, and only what is
# installed needs it. In a shell, who knows.
images=()
[[ ${1:-} == with || " ${suites[*]} " != *" install "* ]] || images=(--all)
# The importer's is for the tests of imports.
if [[ ${1:-} == shell || $tests == *import::* ]]; then
    images+=(--importer)
fi
"$repo/scripts/build-images.sh" "${images[@]}"
remove_leftovers
trap end EXIT
trap 'exit 130' INT TERM HUP
pause_image=coracle.dev/pause:$("$built/coracle" --version | cut -d' ' -f2)
bin=$(realpath "$built")
export PATH=$programs:$PATH:$bin CORACLE_E2E=own RUST_BACKTRACE=${RUST_BACKTRACE:-0} pause_image
if ((${#instead[@]} > 0)); then
    in_cluster "${instead[@]}"
else
    (($# > 0)) || test_controller
    run_suites in_cluster "$@"
fi
exit "$ended"
