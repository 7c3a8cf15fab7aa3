# Not a boot sector: the least that qemu takes for a Linux kernel (boot protocol
# 2.02), all of it the real-mode part. Says its command line, and whether it was
# given an initial ram disk, and powers off.
#
# The loader enters at byte 0x200 with %ds at byte 0; labels are therefore used
# relative to the start.
        .set    COM1_DATA, 0x3f8
        .set    COM1_STATUS, 0x3fd
        .set    PM1_CNT, 0x604
        .set    SOFT_OFF, 0x2000
        .code16
        .globl _start
_start: .org    0x1f1
        .byte   1                       # setup_sects
        .word   0                       # root_flags
        .long   0x20                    # syssize, in 16 bytes
        .word   0, 0, 0                 # ram_size, vid_mode, root_dev
        .word   0xaa55
        jmp     main                    # two bytes
        .ascii  "HdrS"
        .word   0x0202                  # version
        .long   0                       # realmode_swtch
        .word   0, 0                    # start_sys_seg, kernel_version
        .byte   0, 1                    # type_of_loader, loadflags: loaded high
        .word   0                       # setup_move_size
        .long   0x100000                # code32_start
ramdisk: .long  0, 0                    # ramdisk_image, ramdisk_size
        .long   0                       # bootsect_kludge
        .word   0, 0                    # heap_end_ptr, extended loader
cmdline: .long  0                       # cmd_line_ptr
        .long   0                       # initrd_addr_max; qemu writes it

main:   cld
        movw    $(hello - _start), %si
        call    puts
        movl    (cmdline - _start), %eax
        movw    %ax, %si
        andw    $15, %si
        shrl    $4, %eax
        pushw   %ds
        movw    %ax, %ds
        call    puts
        popw    %ds
        cmpl    $0, (ramdisk - _start) + 4
        je      off
        movw    $(disk - _start), %si
        call    puts
off:    movw    $(crlf - _start), %si
        call    puts
        movw    $PM1_CNT, %dx
        movw    $SOFT_OFF, %ax
        outw    %ax, %dx
halt:   hlt
        jmp     halt

# Prints the zero-terminated string at %ds:%si.
puts:   lodsb
        testb   %al, %al
        jz      puts_end
        movb    %al, %ah
        movw    $COM1_STATUS, %dx
busy:   inb     %dx, %al
        testb   $0x20, %al
        jz      busy
        movb    %ah, %al
        movw    $COM1_DATA, %dx
        outb    %al, %dx
        jmp     puts
puts_end:
        ret

hello:  .asciz  "kernel with command line: "
disk:   .asciz  ", with a ram disk"
crlf:   .asciz  "\r\n"
        .org    1024
