//! The guests: a few bytes of code each, and the memory they run in.
//!
//! Both report on [`PORT`]. Addresses are the guest's physical ones, below
//! [`MEMORY`].

/// The guests' memory: page tables, code and a page of data.
pub(crate) const MEMORY: usize = 8 * PAGE;
/// A page.
pub(crate) const PAGE: usize = 4096;
/// The port the guests report on.
pub(crate) const PORT: u16 = 0x10;

/// Page map level 4; the two levels below follow in a page each.
pub(crate) const PML4: usize = PAGE;
/// Where the code is.
pub(crate) const CODE: usize = 4 * PAGE;
/// What `cmpxchg16b` works on; zero at first.
pub(crate) const DATA: usize = 5 * PAGE;

/// What the real-mode guest reports.
pub(crate) const HELLO: u8 = 0x43;
/// What the kernel-mode guest reports after its loop.
pub(crate) const LOOPED: u8 = 1;
/// What the kernel-mode guest reports after `cmpxchg16b` stored this.
pub(crate) const STORED: u8 = 2;

/// How often the kernel-mode guest goes round its loop.
pub(crate) const ROUNDS: u32 = 100_000;
/// How many instructions a round has.
pub(crate) const INSTRUCTIONS_PER_ROUND: u64 = 4;

/// Says hello and halts, in 16-bit code.
pub(crate) const REAL_MODE: [u8; 5] = [
    0xb0, HELLO, //      mov al, HELLO
    0xe6, 0x10, //       out PORT, al
    0xf4, //             hlt
];

/// Counts, reports, exchanges 16 bytes, reports what is in memory then, and
/// halts, in 64-bit code. Each part needs only what `mov` gives it.
pub(crate) fn kernel_mode() -> Vec<u8> {
    let mut code = vec![0xb9]; //                    mov ecx, ROUNDS
    code.extend(ROUNDS.to_le_bytes());
    code.extend([
        0x48, 0x01, 0xc8, //                   loop: add rax, rcx
        0x48, 0x31, 0xc3, //                         xor rbx, rax
        0x48, 0xff, 0xc9, //                         dec rcx
        0x75, 0xf5, //                               jnz loop
        0xb0, LOOPED, //                             mov al, LOOPED
        0xe6, 0x10, //                               out PORT, al
        0x31, 0xc0, //                               xor eax, eax
        0x31, 0xd2, //                               xor edx, edx
        0x31, 0xc9, //                               xor ecx, ecx
        0xbb, STORED, 0, 0, 0,    //                 mov ebx, STORED
        0xbf, //                                     mov edi, DATA
    ]);
    code.extend(
        u32::try_from(DATA)
            .expect("guest addresses are small")
            .to_le_bytes(),
    );
    code.extend([
        0xf0, 0x48, 0x0f, 0xc7, 0x0f, //             lock cmpxchg16b [rdi]
        0x8a, 0x07, //                               mov al, [rdi]
        0xe6, 0x10, //                               out PORT, al
        0xf4, //                                     hlt
    ]);
    code
}

/// Page tables that map the first 2 MiB to themselves: one entry per level,
/// at [`PML4`] and the two pages after it.
pub(crate) fn page_tables() -> [(usize, u64); 3] {
    const PRESENT_WRITABLE: u64 = 0b11;
    const TWO_MIB_PAGE: u64 = 1 << 7;
    let table = |at: usize| at as u64 | PRESENT_WRITABLE;
    [
        (PML4, table(PML4 + PAGE)),
        (PML4 + PAGE, table(PML4 + 2 * PAGE)),
        (PML4 + 2 * PAGE, PRESENT_WRITABLE | TWO_MIB_PAGE),
    ]
}
