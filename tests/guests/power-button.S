# Says that it is ready, waits for the ACPI power button and powers off.
        .include "common.inc"

main:   call    arm_button
        movw    $ready, %si
        call    puts
wait:   call    test_button
        jz      wait
        movw    $bye, %si
        call    puts
        jmp     poweroff

ready:  .asciz  "guest ready\r\n"
bye:    .asciz  "guest powers off\r\n"
        .org    510
        .word   0xaa55
