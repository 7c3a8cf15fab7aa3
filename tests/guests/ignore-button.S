# Says that it is ready and spins for ever, whatever button is pressed.
        .include "common.inc"

main:   movw    $ready, %si
        call    puts
spin:   jmp     spin

ready:  .asciz  "guest ready\r\n"
        .org    510
        .word   0xaa55
