#!/usr/bin/env bash
# bench.sh [coracle-bench's options]: measures Coracle beside bare qemu, and,
# without options, the controller with none, 1,000 and 10,000 VMs first. "bench.sh
# controller COUNT…" measures only the controller, with so many, and "bench.sh
# cluster [TIMES]" starts of VMs in a cluster beside those of a plain pod, and
# how long a pause takes. What it needs is fetched and built first; both sides
# then run in one process namespace whose first process reaps at once (a
# machine's own may take its time, and every end of a process would seem slow).
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
cd "$repo"

((EUID == 0)) || die "measuring pods needs root"
guest=$cache/bench
load=target/x86_64-unknown-linux-gnu/image/coracle-bench-load

# A guest that says one line from its first process, or loads its disk: Debian's
# cloud kernel, a static busybox, and our program for that.
make_guest() {
    local package work module
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ {print $2; exit}')
    [[ -n $package ]] || die "apt does not know linux-image-cloud-amd64: run apt-get update"
    if [[ -e $guest/$package && scripts/bench.sh -ot $guest/initrd && $load -ot $guest/initrd ]]; then
        return
    fi
    work=$(mktemp -d)
    (cd "$work" && apt-get -q download "$package")
    dpkg-deb -x "$work"/*.deb "$work/kernel"
    mkdir -p "$guest" "$work/root/bin" "$work/root/lib"
    cp "$(command -v busybox)" "$work/root/bin/busybox"
    cp "$load" "$work/root/bin/load"
    for module in virtio/virtio_ring virtio/virtio virtio/virtio_pci_modern_dev \
        virtio/virtio_pci_legacy_dev virtio/virtio_pci block/virtio_blk; do
        cp "$work"/kernel/lib/modules/*/kernel/drivers/"$module.ko" "$work/root/lib/"
    done
    cat >"$work/root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mkdir -p /proc
/bin/busybox mount -t proc proc /proc
echo "coracle-bench: userspace"
case $(/bin/busybox cat /proc/cmdline) in
    *coracle.bench=stay*) while :; do /bin/busybox sleep 3600; done ;;
    *coracle.bench=load*)
        /bin/busybox mkdir -p /dev
        /bin/busybox mount -t devtmpfs dev /dev
        for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
            /bin/busybox insmod /lib/$module.ko
        done
        /bin/load /dev/vda
        ;;
esac
/bin/busybox poweroff -f
INIT
    chmod 0755 "$work/root/init"
    (cd "$work/root" && find . | cpio --quiet -o -H newc | gzip -n) >"$guest/initrd"
    cp "$work"/kernel/boot/vmlinuz-* "$guest/vmlinuz"
    touch "$guest/$package" "$guest/initrd"
    rm -rf "$work"
}

prepare_guest() {
    # Static, because it is also all that a guest has.
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS='-C target-feature=+crt-static' \
        timed "Building the program that loads disks" \
        cargo build --locked --profile image --target x86_64-unknown-linux-gnu -p coracle-bench-load
    timed "Preparing the guest" make_guest
}

# The controller, on a real API server.
measure_controller() {
    local programs
    programs=$(scripts/kubernetes.sh)
    # As the image has it: its text is a part of the memory that it takes.
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS='-C target-feature=+crt-static' \
        timed "Building the controller to measure" \
        cargo build --locked --profile image --target x86_64-unknown-linux-gnu -p coracle-controller
    timed "Building the program to measure with" \
        cargo bench --locked --quiet -p coracle-controller --bench scale --no-run
    say "Measuring the controller with $* VMs (minutes)"
    CORACLE_CONTROLLER=$repo/target/x86_64-unknown-linux-gnu/image/coracle-controller KUBE_BIN=$programs:$PATH \
        cargo bench --locked --quiet -p coracle-controller --bench scale -- "$@"
}

# Starts of VMs, from kubectl apply to the guest's userspace, and pauses.
measure_cluster() {
    local bench
    prepare_guest
    timed "Building the program to measure with" cargo bench --locked --quiet -p coracle-e2e --bench cluster --no-run
    bench=$(cargo bench --locked --quiet -p coracle-e2e --bench cluster --no-run --message-format=json |
        jq -r 'select(.executable != null) | .executable')
    timed "Building the controller" cargo build --locked --release -p coracle-controller
    CORACLE_BENCH_GUEST=$guest PATH=$PWD/target/release:$PATH "$repo/scripts/e2e.sh" with "$bench" "$@"
}

case ${1:-} in
    controller)
        shift
        measure_controller "$@"
        exit
        ;;
    cluster)
        shift
        measure_cluster "$@"
        exit
        ;;
    '')
        measure_controller 0 1000 10000
        measure_cluster
        ;;
esac
scripts/build-images.sh
timed "Building the programs to measure with" \
    cargo build --release -p coracle -p coracle-device-plugin -p coracle-block -p coracle-benches
prepare_guest
tests/guests/build.sh "$guest/boot-sectors" >/dev/null

say "Measuring (this takes some minutes; leave the machine alone)"
# shellcheck disable=SC2016 # expanded by the inner shell, which reaps
exec unshare --pid --fork --mount-proc bash -c '"$@" & wait $!' bench \
    target/release/coracle-bench \
    --pod-programs target/x86_64-unknown-linux-gnu/image \
    --block target/release/coracle-block \
    --coracle target/release/coracle \
    --images "$cache/images" \
    --guest "$guest" \
    --spinner "$guest/boot-sectors/ignore-button.img" \
    --sizer "$guest/boot-sectors/size.img" \
    --load "$load" \
    "$@"
