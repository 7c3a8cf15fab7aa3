# Says the size of the first virtio disk in sectors, whenever it is another
# one than before: what the device's configuration space has (virtio 1.x
# §5.2.4, by the legacy interface of §4.1.4.10). Powers off when the ACPI power
# button is pressed.
        .include "common.inc"
        .set    CONFIG_ADDRESS, 0xcf8
        .set    CONFIG_DATA, 0xcfc
        .set    VIRTIO_BLK, 0x10011af4
        .set    CAPACITY, 0x14

main:   call    arm_button
        movl    $0x80000000, %ebx       # bus 0, device 0, register 0
find:   movl    %ebx, %eax
        call    config
        cmpl    $VIRTIO_BLK, %eax
        je      found
        addl    $0x800, %ebx            # the next device
        cmpl    $0x80010000, %ebx
        jb      find
        movw    $none, %si
        jmp     end
found:  leal    0x10(%ebx), %eax        # BAR 0: I/O ports
        call    config
        andw    $0xfffc, %ax
        movw    %ax, ports

look:   movw    ports, %dx
        addw    $CAPACITY, %dx
        inl     %dx, %eax
        cmpl    last, %eax
        je      same
        movl    %eax, last
        movw    $size, %si
        call    puts
        movl    last, %eax
        call    puthex
        movw    $line, %si
        call    puts
same:   call    test_button
        jz      look
        movw    $bye, %si
end:    call    puts
        jmp     poweroff

# The PCI configuration register at %eax.
config: movw    $CONFIG_ADDRESS, %dx
        outl    %eax, %dx
        movw    $CONFIG_DATA, %dx
        inl     %dx, %eax
        ret

        .include "hex.inc"
ports:  .word   0
last:   .long   0
none:   .asciz  "no virtio disk\r\n"
size:   .asciz  "size "
line:   .asciz  "\r\n"
bye:    .asciz  "guest powers off\r\n"
        .org    510
        .word   0xaa55
