# The guest of the demo's KVM part: a boot sector that says who it is, how
# much memory the BIOS gives it, what is in sector 1 of its disk, writes a line
# to sector 2, and powers the machine off.
#
# Real mode only, on purpose: some machines have a /dev/kvm that runs nothing
# else, and this guest still shows that the device, the disk and the serial
# port work. It is one sector, so every part is short rather than clever.
#
# Assembled with `as --32`, linked with `ld --oformat binary -Ttext 0x7c00`.

        .code16
        .set    SERIAL, 0x3f8
        # ACPI's PM1a control register where SeaBIOS puts it on q35; the
        # value is SLP_EN with the sleep type of S5.
        .set    PM1A_CONTROL, 0x604
        .set    POWER_OFF, 0x2000
        # Sectors read and written; the buffer is behind this one.
        .set    BUFFER, 0x8000

        .globl  _start
_start:
        ljmp    $0, $start
start:
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp
        movb    %dl, drive
        cld

        movw    $hello, %si
        call    print

        # Memory above 16 MiB in units of 64 KiB, and between 1 and 16 MiB in
        # KiB: int 15h, AX=E801h.
        movw    $0xe801, %ax
        int     $0x15
        jc      failed
        shrw    $4, %bx                 # MiB above 16 MiB
        shrw    $10, %ax                # MiB between 1 and 16 MiB
        addw    %bx, %ax
        incw    %ax                     # and the first
        call    number
        movw    $memory, %si
        call    print

        # Sector 1: the words that the host left for us.
        movb    $0x42, %ah
        movw    $1, sector
        call    disk
        movw    $BUFFER, %si
        call    print

        # Sector 2: our answer, and zeros behind it.
        movw    $BUFFER, %di
        xorw    %ax, %ax
        movw    $256, %cx
        rep     stosw
        movw    $answer, %si
        movw    $BUFFER, %di
        movw    $answer_size, %cx
        rep     movsb
        movw    $0x4300, %ax
        movw    $2, sector
        call    disk

        movw    $done, %si
        call    print
        movw    $POWER_OFF, %ax
        movw    $PM1A_CONTROL, %dx
        outw    %ax, %dx
halt:
        hlt
        jmp     halt

failed:
        movw    $error, %si
        call    print
        jmp     halt

# int 13h with the packet below; AH says read or write.
disk:
        movb    drive, %dl
        movw    $packet, %si
        int     $0x13
        jc      failed
        ret

# AX as a decimal number.
number:
        xorw    %dx, %dx
        movw    $10, %bx
        divw    %bx
        testw   %ax, %ax
        jz      last
        pushw   %dx
        call    number
        popw    %dx
last:
        movb    %dl, %al
        addb    $'0', %al

# AL to the serial port, once it takes a byte.
put:
        movb    %al, %ah
        movw    $SERIAL + 5, %dx
wait:
        inb     %dx, %al
        testb   $0x20, %al
        jz      wait
        movw    $SERIAL, %dx
        movb    %ah, %al
        outb    %al, %dx
        ret

# The text at SI up to a zero byte.
next:
        call    put
print:
        lodsb
        testb   %al, %al
        jnz     next
        ret

hello:  .asciz  "coracle boot sector: awake in real mode\r\nmemory: "
memory: .asciz  " MiB\r\nsector 1: "
done:   .asciz  "\r\nsector 2: written\r\ndone\r\n"
error:  .asciz  "failed\r\n"
answer: .ascii  "written by the boot sector\n"
        .set    answer_size, . - answer
drive:  .byte   0
        .align  4
packet: .byte   16, 0
        .word   1                       # sectors
        .word   BUFFER, 0               # to or from
sector: .word   0
        .word   0, 0, 0

        .org    510
        .word   0xaa55
