#!/usr/bin/env bash
# packages.sh GROUP…: installs the Debian packages that are missing for what
# the groups are about. A program that is there already, from wherever, is
# left alone.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"

# program:package, or file:package where no program tells.
declare -A groups=(
    [build]="cc:gcc as:binutils protoc:protobuf-compiler dpkg-deb:dpkg /usr/include/google/protobuf/empty.proto:libprotobuf-dev"
    [check]="shellcheck:shellcheck git:git"
    [run]="containerd:containerd runc:runc iptables:iptables ip:iproute2 losetup:mount jq:jq
           /usr/lib/cni/ptp|/opt/cni/bin/ptp:containernetworking-plugins"
    [guest]="mmdebstrap:mmdebstrap extlinux:extlinux mkfs.ext4:e2fsprogs debugfs:e2fsprogs sfdisk:fdisk
             /usr/lib/syslinux/mbr/mbr.bin|/usr/lib/EXTLINUX/mbr.bin:syslinux-common"
    [test]="qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils busybox:busybox-static cpio:cpio fsck.vfat:dosfstools setpriv:util-linux"
    [e2e]="openssl:openssl mkfs.ext4:e2fsprogs nft:nftables jq:jq pgrep:procps busybox:busybox-static unshare:util-linux
           /usr/lib/cni/bridge|/opt/cni/bin/bridge:containernetworking-plugins"
)

have() {
    local alternatives alternative
    IFS='|' read -ra alternatives <<<"$1"
    for alternative in "${alternatives[@]}"; do
        case $alternative in
            /*) [[ -e $alternative ]] && return 0 ;;
            *) PATH=$PATH:/usr/sbin:/sbin command -v "$alternative" >/dev/null && return 0 ;;
        esac
    done
    return 1
}

missing=()
for group in "$@"; do
    for entry in ${groups[$group]:?"unknown group $group"}; do
        have "${entry%:*}" || missing+=("${entry##*:}")
    done
done
command -v cargo >/dev/null || die "cargo is missing: install Rust 1.89 or newer (https://rustup.rs)"
((${#missing[@]} == 0)) && exit 0

mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
command -v apt-get >/dev/null || die "missing: ${missing[*]} (Debian's names); install them and try again"
((EUID == 0)) || die "missing Debian packages: ${missing[*]}; run as root: apt-get install ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
timed "Updating the package lists" apt-get -q update
timed "Installing ${missing[*]}" apt-get -q -y --no-install-recommends install "${missing[@]}"
