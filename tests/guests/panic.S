# Says so and reports a panic through the pvpanic device.
        .include "common.inc"

main:   movw    $words, %si
        call    puts
        movw    $PVPANIC, %dx
        movb    $1, %al
        outb    %al, %dx
        jmp     halt

words:  .asciz  "guest panics\r\n"
        .org    510
        .word   0xaa55
