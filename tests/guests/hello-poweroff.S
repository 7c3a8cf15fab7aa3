# Says hello and powers off.
        .include "common.inc"

main:   movw    $hello, %si
        call    puts
        jmp     poweroff

hello:  .asciz  "hello from the guest\r\n"
        .org    510
        .word   0xaa55
