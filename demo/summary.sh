# The demo's last words, from the reports and consoles of its VMs. Sourced by
# run.sh, whose variables it reads; every line says what was measured or read.
# shellcheck shell=bash disable=SC2154 # run.sh sets them

summary() {
    rule
    printf '  web: a Debian guest, twice from one raw block volume\n'
    rule
    row accelerator "$accelerator: $reason"
    machine "$work/web-2.json"
    row "1st boot" "$(stages "$work/web-1.json")"
    row "2nd boot" "$(stages "$work/web-2.json")"
    row guest "its own words at the first boot:"
    guest_words "$work/web-1.console"
    row proof "read from $web_device after the guest was off:"
    printf '                 %s\n' "${proof[@]}"
    rule
    if [[ -n $level ]]; then
        printf '  tiny: a boot sector under KVM, on the device that the plugin handed out\n'
        rule
        machine "$work/tiny.json"
        row stages "$(stages "$work/tiny.json")"
        row guest "its own words:"
        printable <"$work/tiny.console" | sed '/^$/d; s/^/                 /'
        row proof "sector 2 of $tiny_device: $tiny_answer"
        rule
    fi
    row images "made from Debian packages and this checkout:"
    # Name, digest, size, archive.
    sed -E 's/^(\S+) +sha256:(.{12})\S* +(\S+ MiB) .*/                 \1  \2  \3/' "$work/images"
    row time "$(seconds "$(elapsed_ms)") in all"
    rule
}

rule() {
    printf -- '─%.0s' {1..78}
    printf '\n'
}

# row NAME TEXT: a name and a text, which goes on below itself.
row() {
    local name=$1 line
    while IFS= read -r line; do
        printf '  %-13s  %s\n' "$name" "$line"
        name=
    done < <(fold -s -w 80 <<<"$2")
}

# What is on the node for a VM: pod, sandbox, devices, volumes.
machine() {
    local line
    while IFS=$'\t' read -r -a line; do
        row "${line[0]}" "${line[1]}"
    done < <(jq -r '
        def short: .[0:12];
        ["pod", "\(.pod) in sandbox \(.sandboxId | short), IP \(.podIp // "none")"],
        ["container", "\(.containerId | short) of \(.image), \(.runtime)"],
        (.devices[] | ["device", "\(.resource) → \(.ids | join(", "))" +
            ([.answer.devices[] | " → \(.hostPath) → \(.containerPath)"] | add // "")]),
        (.disks[] | ["disk", "\(.disk): claim \(.claim) → \(.path) → \(.containerPath)" +
            (if .bytes then ", \(.bytes / 1048576 | floor) MiB" else "" end)]),
        ["end", "\(.end.termination.reason // .end.runtimeReason): \(.end.termination.message // "")"]
        | @tsv' "$1")
}

# How long each stage took, on one line.
stages() {
    jq -r '
        def time: if . < 1000 then "\(.) ms" else "\(. / 100 | floor / 10) s" end;
        ([.stages[] | "\(.name) \(.ms | time)"] + ["guest ran \(.ranMs | time)"]) | join(", ")' "$1"
}

# What a guest wrote, without what would move a terminal's cursor.
printable() {
    sed 's/\x1b\[[0-9;?]*[A-Za-z]//g' | tr -cd '[:print:]\n\t'
}

# The part of the console between the first-boot step's marks.
guest_words() {
    printable <"$1" | sed -n '/^----- coracle guest: boot/,/^----- coracle guest: end/p' |
        sed '/^-----/d; /^$/d; s/^/                 /'
}
