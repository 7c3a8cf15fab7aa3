# A node: containerd, kubelet and kube-proxy, as they come out of the box.
# What is set differs from the defaults because of where this runs (a machine
# that has other things to do, maybe without CAP_SYS_RESOURCE or cgroup v2),
# never to make Coracle's life easier: in particular
# device_ownership_from_security_context stays off, and CDI is not used.
# shellcheck shell=bash
# shellcheck source=tests/e2e/cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

: "${pause_image:?the image of a pod sandbox; scripts/e2e.sh sets it}"

# The files that a node has at fixed places, each a directory of its own.
# /run is new and in memory, as after a boot.
node_mounts() {
    local dir=$E2E/$1
    mkdir -p "$dir"/{kubelet,log,containerd,cni} /var/lib/kubelet
    mount -t tmpfs -o mode=0755,nosuid,nodev "$1-run" /run
    mount --bind "$dir/kubelet" /var/lib/kubelet
    mount --bind "$dir/log" /var/log
    mount --make-rshared /var/lib/kubelet
    mount --make-rshared /run
}

# The part of the cgroup tree that is the node's.
node_cgroup() { echo "/${E2E##*/}/$1"; }

node_cgroups() {
    local hierarchy dir file
    dir=$(node_cgroup "$1")
    while read -r hierarchy; do
        mkdir -p "$hierarchy$dir"
        # A cpuset (v1) begins empty, and takes no process then.
        for file in cpuset.cpus cpuset.mems; do
            [[ -e $hierarchy/cpuset.effective_cpus ]] || continue
            cat "$hierarchy/$file" >"$hierarchy${dir%/*}/$file"
            cat "$hierarchy/$file" >"$hierarchy$dir/$file"
        done
    done < <(awk '$3 ~ /^cgroup/ {print $2}' /proc/mounts)
}

pod_subnet() { echo "10.244.${1#node}.0/24"; }
node_address() { echo "10.89.0.${1#node}"; }

write_cni() {
    cat >"$E2E/$1/cni/10-pods.conflist" <<CNI
{"cniVersion": "0.4.0", "name": "pods", "plugins": [{
  "type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": "$(pod_subnet "$1")"}]],
           "routes": [{"dst": "0.0.0.0/0"}]}}]}
CNI
}

cni_bin() {
    local dir
    for dir in /opt/cni/bin /usr/lib/cni; do
        [[ ! -x $dir/bridge ]] || { echo "$dir"; return; }
    done
    die "the CNI plugins are missing: apt-get install containernetworking-plugins"
}

# containerd 2 by default, 1.x with RUNTIME=debian: the same settings in both.
containerd_config() {
    local version=3 cri=io.containerd.cri.v1.runtime images='' bins=bin_dirs pause
    pause="[plugins.\"io.containerd.cri.v1.images\".pinned_images]
sandbox = \"$pause_image\""
    if [[ $(containerd --version) =~ \ v?1\. ]]; then
        version=2 cri=io.containerd.grpc.v1.cri bins=bin_dir
        pause='' images="sandbox_image = \"$pause_image\""
    fi
    local bin
    bin=\"$(cni_bin)\"
    [[ $version == 2 ]] || bin="[$bin]"
    cat <<TOML
version = $version
root = "$E2E/$1/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "/run/containerd/containerd.sock"
$pause
[plugins."$cri"]
device_ownership_from_security_context = false
disable_apparmor = true
restrict_oom_score_adj = true
$images
[plugins."$cri".cni]
$bins = $bin
conf_dir = "$E2E/$1/cni"
[plugins."$cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."$cri".containerd.runtimes.runc.options]
SystemdCgroup = false
TOML
}

run_containerd() { exec containerd --config "$E2E/$1/containerd.toml" --log-level warn; }

write_kubelet() {
    cat >"$E2E/$1/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
volumePluginDir: /var/lib/kubelet/volume-plugins
resolvConf: $E2E/resolv.conf
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: $(node_cgroup "$1")
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 64Mi, nodefs.available: 1Gi, imagefs.available: 1Gi}
nodeStatusUpdateFrequency: 3s
YAML
}

run_kubelet() {
    local taints=
    # A test of one node does not meet the second one of another.
    [[ $1 == node1 ]] || taints=e2e.coracle.dev/second=$1:NoSchedule
    exec kubelet --config="$E2E/$1/kubelet.yaml" --kubeconfig="$E2E/run/$1.kubeconfig" \
        --register-with-taints="$taints" --hostname-override="$1" --node-ip="$(node_address "$1")" --runtime-cgroups=/ --kubelet-cgroups=/
}

ready_containerd() { ctr_of "$1" version; }
ready_kubelet() { in_node "$1" bash -c ': </dev/tcp/127.0.0.1/10248'; }

run_proxy() {
    exec kube-proxy --kubeconfig="$E2E/run/proxy.kubeconfig" --hostname-override="$1" \
        --proxy-mode=nftables --cluster-cidr=10.244.0.0/16 --conntrack-max-per-core=0 \
        --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
}

# At the level that a nested KVM reaches, which runs boot sectors but no kernel.
# Further devices are what a test writes into devices.yaml.
run_device_plugin() {
    local file=$E2E/$1/devices.yaml
    [[ -e $file ]] || echo 'resources: []' >"$file"
    exec coracle-device-plugin run --kvm-probe run --config "$file" \
        --pod-resources /var/lib/kubelet/pod-resources/kubelet.sock \
        --nri-socket /var/run/nri/nri.sock
}

ctr_of() { in_node "$1" ctr --address /run/containerd/containerd.sock --namespace k8s.io "${@:2}"; }

node_ready() {
    [[ $(kubectl --kubeconfig "$E2E/kubeconfig" get node "$1" \
        -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') == True ]]
}

# The container runtime and the images: needs no API yet.
node_runtime_up() {
    local archive
    node_cgroups "$1"
    write_cni "$1"
    containerd_config "$1" >"$E2E/$1/containerd.toml"
    write_kubelet "$1"
    start containerd "$1"
    wait_for "containerd of $1 answers" 30 ready_containerd "$1"
    for archive in "$E2E"/images/*.tar; do
        ctr_of "$1" images import "$archive" >>"$E2E/logs/images-$1.log" 2>&1
    done
}
