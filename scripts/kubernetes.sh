#!/usr/bin/env bash
# kubernetes.sh [MODULE…]: prints, as a PATH, where the programs of a Kubernetes
# cluster are, or those of the named modules of tests/cluster. KUBE_BIN (a
# directory) or PATH wins when it has all of them; else they are built, once,
# from the Go modules in tests/cluster, and kept in the cache under a key of
# what they are built from. RUNTIME=debian takes the machine's own containerd
# instead of the built one.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

# What each module of tests/cluster gives.
declare -A programs=(
    [kubernetes]="kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubectl kubelet"
    [etcd]="etcd"
    [containerd]="containerd containerd-shim-runc-v2 ctr"
    [csi-provisioner]="csi-provisioner"
    [csi-resizer]="csi-resizer"
    [csi-sanity]="csi-sanity"
)

package() {
    case $1 in
        etcd) echo go.etcd.io/etcd/server/v3 ;;
        csi-provisioner) echo github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner ;;
        csi-resizer) echo github.com/kubernetes-csi/external-resizer/v2/cmd/csi-resizer ;;
        csi-sanity) echo github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity ;;
        kube*) echo "k8s.io/kubernetes/cmd/$1" ;;
        *) echo "github.com/containerd/containerd/v2/cmd/$1" ;;
    esac
}

# missing DIR PROGRAM…: the programs that DIR (or PATH, when it is empty) lacks.
missing() {
    local dir=$1 program
    shift
    for program in "$@"; do
        if [[ -n $dir ]]; then
            [[ -x $dir/$program ]] || echo "$program"
        else
            command -v "$program" >/dev/null || echo "$program"
        fi
    done
}

# version MODULE: the version that the module's go.mod requires.
version() {
    awk '$1 == "require" && NF == 3 {print $3; exit}' "$repo/tests/cluster/$1/go.mod"
}

# What a release build of Kubernetes stamps on its programs; without it they
# call themselves v0.0.0 and kubelet and API server refuse each other.
stamps() {
    local version
    [[ $1 == kubernetes ]] || return 0
    version=$(version kubernetes)
    local major=${version#v} minor=${version#v*.} of=k8s.io/component-base/version
    echo "-X $of.gitVersion=$version -X $of.gitMajor=${major%%.*} -X $of.gitMinor=${minor%%.*}"
}

need_go() {
    command -v go >/dev/null || die "the programs of the test cluster are built with Go, which is missing:" \
        "install Go $(awk '$1 == "go" {print $2; exit}' "$repo/tests/cluster/containerd/go.mod") or newer" \
        "(https://go.dev/dl), or name a directory that has the programs with KUBE_BIN"
}

key() {
    (cd "$repo/tests/cluster/$1" && { cat go.mod go.sum && go env GOVERSION GOARCH && stamps "$1"; } |
        sha256sum | cut -c1-24)
}

# build MODULE: builds what is missing of it, and prints the directory.
build() {
    local module=$1 dir program wanted
    dir=$cache/kubernetes/$(key "$module")
    mkdir -p "$dir"
    # One at a time: two builds of the same would only be slower.
    exec {lock}>"$dir/.lock"
    flock "$lock"
    read -ra wanted <<<"${programs[$module]}"
    for program in $(missing "$dir" "${wanted[@]}"); do
        CGO_ENABLED=0 timed "Building $program $(version "$module") (once; minutes)" \
            go -C "$repo/tests/cluster/$module" build -mod=readonly -trimpath -buildvcs=false \
            -ldflags "-s -w $(stamps "$module")" -o "$dir/.$program" "$(package "$program")"
        mv "$dir/.$program" "$dir/$program"
    done
    exec {lock}>&-
    echo "$dir"
}

modules=(etcd containerd kubernetes)
if (($# > 0)); then
    modules=("$@")
elif [[ ${RUNTIME:-} == debian ]]; then
    modules=(etcd kubernetes)
    [[ -x /usr/bin/containerd ]] ||
        die "RUNTIME=debian wants Debian's containerd: apt-get install containerd"
elif [[ -n ${RUNTIME:-} ]]; then
    die "RUNTIME=$RUNTIME: there is only RUNTIME=debian (and, by default, the built containerd)"
fi
all=()
for module in "${modules[@]}"; do
    read -ra some <<<"${programs[$module]:?there is no module $module}"
    all+=("${some[@]}")
done

if [[ -n ${KUBE_BIN:-} && -z $(missing "$KUBE_BIN" "${all[@]}") ]]; then
    echo "$KUBE_BIN"
elif [[ -n ${KUBE_BIN:-} && $# == 0 ]]; then
    mapfile -t lacking < <(missing "$KUBE_BIN" "${all[@]}")
    die "KUBE_BIN=$KUBE_BIN lacks ${lacking[*]}"
elif [[ -z $(missing "" "${all[@]}") ]]; then
    dirname "$(command -v "${all[0]}")"
else
    need_go
    path=()
    for module in "${modules[@]}"; do
        path+=("$(build "$module")")
    done
    IFS=:
    echo "${path[*]}"
fi
