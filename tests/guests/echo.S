# Sends back what it reads from COM1, line ends as CR LF, and powers off when
# the ACPI power button is pressed.
        .include "common.inc"

main:   call    arm_button
        movw    $ready, %si
        call    puts
next:   call    test_button
        jnz     off
        movw    $COM1_STATUS, %dx
        inb     %dx, %al
        testb   $1, %al
        jz      next
        movw    $COM1_DATA, %dx
        inb     %dx, %al
        cmpb    $'\n', %al
        je      newline
        cmpb    $'\r', %al
        je      newline
        call    putc
        jmp     next
newline:
        movw    $crlf, %si
        call    puts
        jmp     next
off:    movw    $bye, %si
        call    puts
        jmp     poweroff

ready:  .asciz  "guest ready\r\n"
bye:    .asciz  "guest powers off\r\n"
crlf:   .asciz  "\r\n"
        .org    510
        .word   0xaa55
