# Keeps a logbook on the disk it was booted from: at every tick of the timer (18
# a second) a record of one sector, until the ACPI power button is pressed.
# What stands where, and how it is checked, is in tests/src/logbook.rs.
#
# A guest that finds that another has booted from the disk since it did says so,
# on the console and on the disk, and writes no more.
        .include "common.inc"
        .set    BUFFER, 0x8000
        .set    MAGIC, 0x42474f4c       # "LOGB"
        .set    BOOTS, 1                # this many have booted: one number
        .set    STRAY, 2                # written by one that is not alone
        .set    RING, 64
        .set    RECORDS, 256

main:   movb    %dl, drive
        call    arm_button
        call    boots                   # this is one more
        incl    BUFFER
        movl    BUFFER, %eax
        movl    %eax, boot
        movb    $0x43, %ah              # extended write, without verify
        call    access
        movw    $RING, lba              # the newest record
look:   call    read
        movl    BUFFER + 4, %eax
        cmpl    sequence, %eax
        jbe     older
        movl    %eax, sequence
older:  incw    lba
        cmpw    $(RING + RECORDS), lba
        jb      look
        movw    $ready, %si
        call    puts

next:   sti
        hlt
        cli
        call    test_button
        jnz     off
        call    boots
        movl    BUFFER, %eax
        cmpl    boot, %eax
        jne     stray
        incl    sequence
        call    record
        movzbw  sequence, %ax           # modulo RECORDS
        addw    $RING, %ax
        movw    %ax, lba
        movb    $0x43, %ah
        call    access
        jmp     next

off:    movw    $bye, %si
        call    puts
        jmp     poweroff

stray:  movw    $STRAY, lba
        movb    $0x43, %ah
        call    access
        movw    $other, %si
        jmp     end

# Reads how many have booted.
boots:  movw    $BOOTS, lba
read:   movb    $0x42, %ah              # extended read

# BIOS function %ah on the sector lba, which is the end if it fails.
access: movb    $0, %al
        movb    drive, %dl
        movw    $packet, %si
        sti
        int     $0x13
        cli
        movw    $failed, %si
        jc      end
        ret
end:    call    puts
        jmp     halt

# The record: magic, sequence, boot, 124 numbers that follow from those, and
# the sum of all before.
record: movw    $BUFFER, %di
        xorl    %ebx, %ebx
        movl    $MAGIC, %eax
        call    put
        movl    sequence, %eax
        call    put
        movl    boot, %eax
        call    put
        shll    $16, %eax
        addl    sequence, %eax
        movw    $124, %cx
fill:   imull   $1664525, %eax
        addl    $1013904223, %eax
        call    put
        loop    fill
        movl    %ebx, %eax
put:    addl    %eax, %ebx
        stosl
        ret

drive:  .byte   0
boot:   .long   0
sequence: .long 0
packet: .byte   16, 0
        .word   1
        .word   BUFFER, 0
lba:    .quad   0
ready:  .asciz  "guest ready\r\n"
bye:    .asciz  "guest powers off\r\n"
other:  .asciz  "guest is not alone\r\n"
failed: .asciz  "guest cannot use its disk\r\n"
        .org    510
        .word   0xaa55
