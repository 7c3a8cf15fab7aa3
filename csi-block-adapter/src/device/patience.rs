//! Tries again while something that lets go at once holds a disk.
//!
//! Such holders are another VM that tries the same read-only disk, a child
//! process between fork and exec, which has a copy of every descriptor, and
//! what udev runs when a device was closed (mdadm, LVM). A VM or a mount still
//! has the disk after all tries.

use std::{thread, time::Duration};

/// How often the disk is tried.
const TRIES: u32 = 5;
/// Pause between the tries.
const PAUSE: Duration = Duration::from_millis(20);

/// The first result of `attempt` that is not `busy`, or the last one.
pub(super) fn while_busy<T, E>(
    busy: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for _ in 1..TRIES {
        match attempt() {
            Err(error) if busy(&error) => thread::sleep(PAUSE),
            result => return result,
        }
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use super::{TRIES, while_busy};

    #[test]
    fn only_a_busy_disk_is_tried_again_and_not_for_ever() {
        let mut tries = 0;
        let freed = while_busy(
            |busy| *busy,
            || {
                tries += 1;
                if tries < 3 { Err(true) } else { Ok(tries) }
            },
        );
        assert_eq!(freed, Ok(3));
        let mut tries = 0;
        let mut attempt = |error| {
            tries += 1;
            Err::<(), bool>(error)
        };
        assert_eq!(while_busy(|busy| *busy, || attempt(false)), Err(false));
        assert_eq!(while_busy(|busy| *busy, || attempt(true)), Err(true));
        assert_eq!(tries, 1 + TRIES);
    }
}
