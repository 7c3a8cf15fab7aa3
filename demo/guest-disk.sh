#!/usr/bin/env bash
# Makes the demo's guest: a real Debian disk with partition table, boot
# loader, distribution kernel and init, from packages alone.
#
#   guest-disk.sh OUT     puts a copy of the disk at OUT (sparse)
#
# The disk is kept in the cache under a key of everything in this directory
# that goes into it; versions of Debian's packages are not part of the key.
# Leaves no mount and no loop device behind, whatever happens.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"

readonly RELEASE=bookworm
readonly SIZE_MIB=1024
# The file system starts where every partitioning tool would start it.
readonly START_SECTOR=2048
readonly GUEST=$here/guest
# Facts for a guest under emulation: skip what only costs time there.
readonly CMDLINE='root=LABEL=root rw console=ttyS0 quiet no_timer_check tsc=reliable mitigations=off nokaslr cryptomgr.notests 8250.nr_uarts=1'
# Units that a guest for one short demo does not need.
readonly MASKED=(
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
    systemd-tmpfiles-clean.timer e2scrub_reap.service getty-static.service getty@tty1.service
    systemd-journal-flush.service systemd-logind.service systemd-random-seed.service
    systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-pstore.service
    systemd-sysusers.service systemd-modules-load.service systemd-binfmt.service
    systemd-ask-password-console.path systemd-ask-password-wall.path
    modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@efi_pstore.service
    modprobe@fuse.service modprobe@loop.service
    dev-hugepages.mount dev-mqueue.mount sys-kernel-config.mount sys-kernel-debug.mount
    sys-kernel-tracing.mount sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount
)
# Generators of units that this guest has no use for; each is a process.
readonly MASKED_GENERATORS=(
    bless-boot cryptsetup debug gpt-auto hibernate-resume integritysetup rc-local run system-update
    sysv veritysetup
)
# Where devices are that need udev here: of the others none has a driver to load.
readonly COLDPLUG=(acpi block input net tty virtio)
# Drivers that udev would load for an emulated CPU, to no use.
readonly UNUSED_DRIVERS=(kvm_amd kvm_intel powernow_k8 acpi_cpufreq pcspkr psmouse)

main() {
    (($# == 1)) || die 'usage: guest-disk.sh OUT'
    local out=$1 kept
    kept=$cache/guest/$(key)/disk.img
    if [[ ! -e $kept ]]; then
        make_disk "$kept"
    fi
    mkdir -p "$(dirname "$out")"
    cp --sparse=always --reflink=auto "$kept" "$out"
}

key() {
    cat "${BASH_SOURCE[0]}" "$GUEST"/* | sha256sum | cut -c1-24
}

make_disk() {
    local kept=$1 image root scratch packages
    ((EUID == 0)) || die 'making the guest disk needs root (loop device, mount)'
    need mmdebstrap mmdebstrap extlinux extlinux mkfs.ext4 e2fsprogs losetup mount
    [[ -e /usr/lib/EXTLINUX/mbr.bin ]] || die 'missing /usr/lib/EXTLINUX/mbr.bin: apt-get install extlinux'

    clean_up_at_exit
    mkdir -p "$(dirname "$kept")"
    make_work "${TMPDIR:-/tmp}"
    scratch=$work
    # apt fetches as a user of its own.
    chmod 0755 "$scratch"
    make_work "$(dirname "$kept")"
    image=$work/disk.img root=$work/root
    mkdir "$root"

    step "partitioning a disk of $SIZE_MIB MiB"
    truncate -s "${SIZE_MIB}M" "$image"
    partition_table | dd of="$image" bs=512 count=1 conv=notrunc iflag=fullblock status=none
    attach "$image" --offset $((START_SECTOR * 512))
    # extlinux reads neither 64-bit block numbers nor checksummed metadata.
    mkfs.ext4 -q -L root -O '^64bit,^metadata_csum' "$device"
    hold_signals
    (trap '' INT TERM HUP && mount "$device" "$root")
    undo umount "$root"
    let_signals

    step "fetching and unpacking Debian $RELEASE (half a minute or so)"
    initramfs_settings "$work"
    packages=$(sed 's/#.*//' "$GUEST/packages.list" | xargs | tr ' ' ,)
    # In namespaces of its own: whatever it mounts or starts goes with it, also
    # when it is interrupted.
    TMPDIR=$scratch unshare --mount --pid --fork --kill-child --mount-proc \
        mmdebstrap --mode=root --variant=minbase --include="$packages" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --dpkgopt='path-exclude=/usr/share/initramfs-tools/*/udev' \
        --dpkgopt='path-exclude=/usr/share/initramfs-tools/scripts/init-*/udev' \
        --essential-hook="tar-in $work/initramfs.tar /" \
        "$RELEASE" - 2> >(tell_mmdebstrap) | tar -x -C "$root" --numeric-owner
    step 'setting the guest up'
    furnish "$root"

    step 'installing the boot loader'
    install_loader "$root"
    step 'closing the disk'
    hold_signals
    undo_last # the mount
    undo_last # the loop device
    mv "$image" "$kept"
    let_signals
}

# mmdebstrap's own steps as ours, its errors as they are.
tell_mmdebstrap() {
    local line
    while IFS= read -r line; do
        case $line in
        'I: '*...) step "  ${line#I: }" ;;
        'I: '* | '') ;;
        *) printf '%s\n' "$line" >&2 ;;
        esac
    done
}

# The first sector: extlinux's boot code, then one bootable Linux partition
# from START_SECTOR to the end, addressed by LBA alone.
partition_table() {
    head -c 440 /usr/lib/EXTLINUX/mbr.bin
    head -c $((446 - $(stat -c %s /usr/lib/EXTLINUX/mbr.bin))) /dev/zero
    printf '\x80\xfe\xff\xff\x83\xfe\xff\xff'
    little_endian $START_SECTOR
    little_endian $((SIZE_MIB * 2048 - START_SECTOR))
    head -c 48 /dev/zero
    printf '\x55\xaa'
}

# A 32-bit number as four bytes.
little_endian() {
    local shift
    for shift in 0 8 16 24; do
        # shellcheck disable=SC2059 # the format is the byte
        printf "\\x$(printf %02x $(($1 >> shift & 255)))"
    done
}

# The initramfs holds the way to a disk and nothing else, not even udev: an
# emulated CPU unpacks it. The settings must be there before the kernel is.
initramfs_settings() {
    local work=$1 tree=$1/initramfs
    mkdir -p "$tree/etc/initramfs-tools"/{conf.d,hooks} "$tree/usr/share/initramfs-tools/modules.d"
    printf 'MODULES=list\nBUSYBOX=n\nCOMPRESS=gzip\nCOMPRESSLEVEL=1\nRESUME=none\nFSTYPE=ext4\n' \
        >"$tree/etc/initramfs-tools/conf.d/coracle"
    printf 'virtio_pci\nvirtio_blk\nvirtio_scsi\nsd_mod\n' >"$tree/usr/share/initramfs-tools/modules.d/coracle"
    # What finds the root file system by its label came with udev.
    # shellcheck disable=SC2016 # expanded when the hook runs
    printf '#!/bin/sh\n[ "$1" = prereqs ] && exit\n. /usr/share/initramfs-tools/hook-functions\ncopy_exec /sbin/blkid\n' \
        >"$tree/etc/initramfs-tools/hooks/blkid"
    chmod 0755 "$tree/etc/initramfs-tools/hooks/blkid"
    tar -c -C "$tree" --owner=0 --group=0 -f "$work/initramfs.tar" .
}

furnish() {
    local root=$1
    local system=$root/etc/systemd/system
    furnish_units "$root"
    install -m 0755 "$GUEST/coracle-first-boot" "$root/usr/local/sbin/"
    install -m 0644 "$GUEST/coracle-first-boot.service" "$system/"
    mkdir -p "$system/multi-user.target.wants" "$root/etc/acpi/events" "$root/etc/systemd/journald.conf.d"
    ln -sf ../coracle-first-boot.service /lib/systemd/system/systemd-networkd.service \
        "$system/multi-user.target.wants/"
    printf 'event=button/power\naction=/usr/bin/systemctl --no-block poweroff\n' >"$root/etc/acpi/events/power"
    printf '[Match]\nName=en*\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/demo.network"
    printf '[Journal]\nStorage=volatile\n' >"$root/etc/systemd/journald.conf.d/demo.conf"
    printf 'blacklist %s\n' "${UNUSED_DRIVERS[@]}" >"$root/etc/modprobe.d/demo.conf"
    echo 'LABEL=root / ext4 defaults,noatime 0 0' >"$root/etc/fstab"
    echo demo >"$root/etc/hostname"
    printf 'Debian %s, guest of a Coracle VM. Log in as root, without a password.\n\n' "$RELEASE" >"$root/etc/issue"
    # An empty machine-id is filled in at the first boot.
    : >"$root/etc/machine-id"
    sed -i 's/^root:[^:]*:/root::/' "$root/etc/shadow"
}

furnish_units() {
    local root=$1 name
    local system=$root/etc/systemd/system generators=$root/etc/systemd/system-generators
    mkdir -p "$generators" "$system/systemd-udev-trigger.service.d"
    for name in "${MASKED[@]}"; do
        ln -sf /dev/null "$system/$name"
    done
    for name in "${MASKED_GENERATORS[@]}"; do
        ln -sf /dev/null "$generators/systemd-$name-generator"
    done
    printf '[Service]\nExecStart=\nExecStart=udevadm trigger --action=add%s\n' \
        "$(printf ' --subsystem-match=%s' "${COLDPLUG[@]}")" >"$system/systemd-udev-trigger.service.d/demo.conf"
    ln -sf /lib/systemd/system/multi-user.target "$system/default.target"
}

install_loader() {
    local root=$1 kernel initrd
    kernel=$(cd "$root/boot" && echo vmlinuz-*)
    initrd=$(cd "$root/boot" && echo initrd.img-*)
    cat >"$root/boot/extlinux.conf" <<END
DEFAULT debian
PROMPT 0
LABEL debian
  LINUX $kernel
  INITRD $initrd
  APPEND $CMDLINE
END
    extlinux --install "$root/boot" >/dev/null 2>&1 || die "extlinux --install failed on $root/boot"
}

main "$@"
