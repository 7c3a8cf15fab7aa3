# Writes eight sectors of "CORACLE." from LBA 16 on to the disk it was booted
# from, says whether that went well, waits for the ACPI power button and powers
# off.
        .include "common.inc"
        .set    BUFFER, 0x8000
        .set    SECTORS, 8

main:   movb    %dl, drive
        call    arm_button
        movw    $BUFFER, %di
        movw    $(SECTORS * 512 / 8), %bx
fill:   movw    $pattern, %si
        movw    $4, %cx
        rep movsw
        decw    %bx
        jnz     fill

        movb    drive, %dl
        movw    $packet, %si
        movw    $0x4300, %ax            # extended write, without verify
        sti
        int     $0x13
        cli
        movw    $wrote, %si
        jnc     say
        movw    $failed, %si
say:    call    puts
wait:   call    test_button
        jz      wait
        movw    $bye, %si
        call    puts
        jmp     poweroff

drive:  .byte   0
packet: .byte   16, 0
        .word   SECTORS
        .word   BUFFER, 0
        .quad   16
pattern: .ascii "CORACLE."
wrote:  .asciz  "guest wrote its disk\r\n"
failed: .asciz  "guest cannot write its disk\r\n"
bye:    .asciz  "guest powers off\r\n"
        .org    510
        .word   0xaa55
