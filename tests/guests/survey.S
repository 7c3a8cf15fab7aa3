# Says of each disk after the one it was booted from, as long as the BIOS knows
# one: what stands at byte 43 of its first sector (where FAT has its label), and
# whether writing that sector back succeeds. Powers off.
        .include "common.inc"
        .set    BUFFER, 0x8000
        .set    LABEL, 43

main:
next:   incb    drive
        movb    $0x42, %ah              # extended read
        call    access
        jc      done
        movw    $disk, %si
        call    puts
        movb    drive, %al
        subb    $(0x80 - '0'), %al
        call    putc
        movw    $colon, %si
        call    puts
        movw    $(BUFFER + LABEL), %si
        movw    $11, %cx
label:  lodsb
        cmpb    $' ', %al
        jb      blank
        cmpb    $'~', %al
        jbe     show
blank:  movb    $'.', %al
show:   call    putc
        loop    label
        movb    $0x43, %ah              # extended write, without verify
        call    access
        movw    $writable, %si
        jnc     say
        movw    $readonly, %si
say:    call    puts
        jmp     next
done:   movw    $bye, %si
        call    puts
        jmp     poweroff

# BIOS function %ah on the first sector of the drive; carry set on error.
access: movb    $0, %al
        movw    $1, packet + 2          # an error has set it to what was done
        movb    drive, %dl
        movw    $packet, %si
        sti
        int     $0x13
        cli
        ret

drive:  .byte   0x80
packet: .byte   16, 0
        .word   1
        .word   BUFFER, 0
        .quad   0
disk:   .asciz  "disk "
colon:  .asciz  ": "
writable: .asciz " writable\r\n"
readonly: .asciz " read-only\r\n"
bye:    .asciz  "guest powers off\r\n"
        .org    510
        .word   0xaa55
