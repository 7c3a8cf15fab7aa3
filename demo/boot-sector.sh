#!/usr/bin/env bash
# Makes the disk of the demo's KVM guest from boot-sector.S.
#
#   boot-sector.sh OUT [WORDS]     WORDS go to sector 1, for the guest to read
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"

readonly SIZE=$((1024 * 1024))
readonly SECTOR=512

main() {
    (($# == 1 || $# == 2)) || die 'usage: boot-sector.sh OUT [WORDS]'
    local out=$1 words=${2:-a raw block volume holds this text}
    ((${#words} < SECTOR)) || die "the words must fit in one sector of $SECTOR bytes"
    need as binutils ld binutils

    clean_up_at_exit
    mkdir -p "$(dirname "$out")"
    make_work "$(dirname "$out")"
    as --32 -o "$work/boot.o" "$here/boot-sector.S"
    ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o "$work/disk" "$work/boot.o"
    # A disk of a few sectors is one that SeaBIOS does not read.
    truncate -s $SIZE "$work/disk"
    printf %s "$words" | dd of="$work/disk" bs=$SECTOR seek=1 conv=notrunc status=none
    chmod 0644 "$work/disk"
    mv "$work/disk" "$out"
}

main "$@"
