#!/usr/bin/env bash
# run.sh: the whole path on one machine, from a manifest to a guest's words.
#
# Builds what is missing; boots a Debian guest from a raw block volume in a pod
# sandbox; reads from the volume what the guest wrote; boots it again; boots a
# tiny guest under KVM; and says how it went. Leaves nothing behind, also when
# it is interrupted.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=summary.sh
source "$(dirname "$0")/summary.sh"
cd "$repo"

readonly demo=$repo/demo
# Where guest-disk.sh lets the file system start.
readonly FS_OFFSET=$((2048 * 512))
readonly BUILT=${CARGO_TARGET_DIR:-target}/debug

main() {
    ((EUID == 0)) || die "the demo needs root: it starts containers and attaches loop devices"
    need jq jq losetup mount debugfs e2fsprogs as binutils cp coreutils
    clean_up_at_exit
    make_work "${TMPDIR:-/tmp}"

    build
    choose_accelerator
    debian_guest
    kvm_guest
    # Put together from what the clean-up removes, and said after it: the last
    # words are only said when all went well.
    local words
    words=$(summary)
    say "Cleaning up"
    hold_signals
    undo_all
    let_signals
    printf '\n%s\n' "$words"
}

build() {
    timed "Building coracle" cargo build --locked -p coracle -p coracle-device-plugin
    scripts/build-images.sh >"$work/images"
    say "The guest's disk: Debian, made from packages (kept in the cache)"
    # The volume is a copy: a guest that was booted is no good as a fresh one.
    "$demo/guest-disk.sh" "$work/web-root.img"
    "$demo/boot-sector.sh" "$work/tiny-root.img" "this text is on a raw block volume"
}

# Emulation where KVM cannot run a kernel: decided here, by the device plugin's
# own probe, and written into the manifest.
choose_accelerator() {
    say "Probing /dev/kvm"
    local kernel run
    if kernel=$(probe kernel); then
        accelerator=Kvm level=kernel
        reason="KVM runs 64-bit guests here"
    elif run=$(probe run); then
        accelerator=Emulation level=run
        reason="KVM runs no kernel here: $kernel"
    else
        accelerator=Emulation level=
        reason="no KVM here: $run"
    fi
    step "$reason"
    step "accelerator: $accelerator, in the manifest that is run"
    sed "s/^  accelerator: .*/  # $(sed_text "$reason")\n  accelerator: $accelerator/" "$demo/web.yaml" >"$work/web.yaml"
}

# One line on what the probe of that level found.
probe() {
    local status=0
    "$BUILT/coracle-device-plugin" probe --kvm-probe "$1" >"$work/probe" 2>&1 || status=$?
    sed 's/^coracle-device-plugin: //' "$work/probe" | paste -s -d ' '
    return $status
}

# Text as the replacement of a sed command on one line.
sed_text() {
    printf %s "$1" | sed 's/[&/\]/\\&/g'
}

# boot NAME TITLE MANIFEST CLAIM DEVICE OPTION…: runs a VM to its end; its
# console is shown and kept in $work/NAME.console, the report in NAME.json.
boot() {
    local name=$1 title=$2 manifest=$3 claim=$4 on=$5
    shift 5
    say "$title"
    # The console ends with the guest, not with an interrupt.
    "$BUILT/coracle" run "$manifest" --volume "$claim=$on" --report "$work/$name.json" "$@" </dev/null |
        tee --ignore-interrupts "$work/$name.console"
    jq -e '.end.exitCode == 0' "$work/$name.json" >/dev/null || die "$name did not end well"
}

debian_guest() {
    # The loop device plays the raw block volume of a storage driver.
    attach "$work/web-root.img"
    web_device=$device web_bytes=$(blockdev --getsize64 "$device")

    boot web-1 "First boot: web, a Debian guest on $web_device" "$work/web.yaml" web-root "$web_device" \
        ${level:+--kvm-probe "$level"} --stop-after 'login:'
    read_proof 1
    boot web-2 "Second boot of the same disk" "$work/web.yaml" web-root "$web_device" \
        ${level:+--kvm-probe "$level"} --stop-after 'login:'
    read_proof 2
    [[ ${proof[0]} == "${first[0]}" ]] || die "the first boot's line changed: ${proof[0]}"
    step "the second boot saw what the first one wrote"
}

# read_proof N: reads what the guest wrote from the volume itself, and checks
# that boot N left what it should have.
read_proof() {
    local line wanted script
    mapfile -t proof < <(from_volume /var/lib/coracle-proof)
    ((${#proof[@]} == $1)) || die "expected $1 line(s) of proof on $web_device, found ${#proof[@]}"
    line=${proof[-1]}
    wanted="boot=$1 disk=vda serial=web-root bytes=$web_bytes "
    [[ $line == "$wanted"* ]] || die "expected '$wanted…' on $web_device, found '$line'"
    script=$( (($1 == 1)) && echo script-exit-0 || echo ran-before)
    [[ $line == *:"$script" ]] || die "the seed's script: expected $script, found '$line'"
    mapfile -t runs < <(from_volume /var/lib/coracle-user-data)
    ((${#runs[@]} == 1)) || die "the seed's script ran ${#runs[@]} times"
    step "read back from $web_device: $line"
    if (($1 == 1)); then first=("${proof[@]}"); fi
}

from_volume() {
    PATH=$PATH:/usr/sbin:/sbin debugfs -R "cat $1" "$web_device?offset=$FS_OFFSET" 2>/dev/null
}

kvm_guest() {
    if [[ -z $level ]]; then
        say "No VM under KVM: $reason"
        return
    fi
    attach "$work/tiny-root.img"
    tiny_device=$device
    boot tiny "Under KVM: tiny, a boot sector on $tiny_device" "$demo/tiny.yaml" tiny-root "$tiny_device" \
        --kvm-probe "$level"
    grep -q '^done' "$work/tiny.console" || die "the boot sector did not get to its end"
    jq -e '[.devices[] | select(.resource == "coracle.dev/kvm")] | length == 1' "$work/tiny.json" >/dev/null ||
        die "tiny ran without a device from the plugin"
    tiny_answer=$(dd if="$tiny_device" bs=512 skip=2 count=1 status=none | tr -d '\0')
    [[ $tiny_answer == 'written by the boot sector' ]] || die "sector 2 of $tiny_device holds '$tiny_answer'"
    step "read back from $tiny_device, sector 2: $tiny_answer"
}

main "$@"
