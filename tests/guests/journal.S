# Writes to its second disk, sector after sector and round and round over the
# first MiB, reads each one back and compares, and says its number once it is
# there: sector n % 2048 holds 127 numbers that begin with n, and their sum.
# Powers off when the ACPI power button is pressed.
        .include "common.inc"
        .set    WRITTEN, 0x8000
        .set    READ, 0x8200
        .set    STEP, 0x9e3779b1
        .set    SECTORS, 2048

main:   call    arm_button
next:   movl    n, %eax
        movl    %eax, %ecx
        andl    $(SECTORS - 1), %ecx
        movl    %ecx, lba
        movw    $WRITTEN, %di
        movw    $127, %cx
        xorl    %ebx, %ebx
fill:   stosl
        addl    %eax, %ebx
        addl    $STEP, %eax
        loop    fill
        movl    %ebx, %eax
        stosl

        movw    $WRITTEN, buffer
        movw    $0x4300, %ax            # extended write, without verify
        call    access
        movw    $failed, %si
        jc      end
        movw    $READ, buffer
        movb    $0x42, %ah              # extended read
        call    access
        movw    $failed, %si
        jc      end
        movw    $WRITTEN, %si
        movw    $READ, %di
        movw    $128, %cx
        repe cmpsl
        movw    $wrong, %si
        jne     end

        movl    n, %eax
        call    puthex
        movw    $line, %si
        call    puts
        incl    n
        call    test_button
        jz      next
        movw    $bye, %si
end:    call    puts
        jmp     poweroff

# BIOS function %ah on one sector of the second disk; carry set on error.
access: movw    $1, count               # an error has set it to what was done
        movb    $0x81, %dl
        movw    $packet, %si
        sti
        int     $0x13
        cli
        ret

        .include "hex.inc"
n:      .long   0
packet: .byte   16, 0
count:  .word   1
buffer: .word   WRITTEN, 0
lba:    .quad   0
line:   .asciz  " is written\r\n"
failed: .asciz  "disk error\r\n"
wrong:  .asciz  "read something else than was written\r\n"
bye:    .asciz  "guest powers off\r\n"
        .org    510
        .word   0xaa55
