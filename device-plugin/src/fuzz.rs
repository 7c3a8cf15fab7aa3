//! What others write and this program reads, as the fuzzers of `fuzz/` call
//! it. Not for use: it only says that nothing of it ends the program.

use crate::nri::receive;
use crate::settings::parse;
use crate::uevent::Uevent;

/// A configuration file is read, or refused with the place of each mistake.
pub fn config(bytes: &[u8]) {
    if let Err(problems) = parse(&String::from_utf8_lossy(bytes)) {
        assert!(!problems.is_empty(), "refused without a reason");
        for problem in problems {
            assert!(
                problem.line >= 1 && !problem.message.is_empty(),
                "{problem:?}"
            );
        }
    }
}

/// A message of the kernel is read, or left alone.
pub fn uevent(bytes: &[u8]) {
    if let Some(event) = Uevent::parse(bytes) {
        assert!(!event.action.is_empty(), "{event:?}");
        let _ = event.matters();
    }
}

/// What a container runtime sends is read and answered, or refused.
pub fn nri(bytes: &[u8]) {
    receive(bytes);
}
