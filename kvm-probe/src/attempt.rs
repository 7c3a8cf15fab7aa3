//! One probe: what is run at which level, and for how long.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use kvm_ioctls::VcpuExit;
use nix::time::{ClockId, clock_gettime};

use crate::Level;
use crate::error::ProbeError;
use crate::guest::{
    HELLO, INSTRUCTIONS_PER_ROUND, LOOPED, PORT, REAL_MODE, ROUNDS, STORED, kernel_mode,
};
use crate::kick;
use crate::machine::{Machine, Mode, open};

/// When the virtual CPU is called off, on the wall's clock. Healthy hardware
/// is done in a few milliseconds, so this is for a node whose processors are
/// all taken, or a KVM that loops.
const RUN_LIMIT: Duration = Duration::from_millis(1500);
/// How long KVM has to notice that.
const KICK_LIMIT: Duration = Duration::from_millis(500);
/// How much processor time the loop of kernel mode may take: native hardware
/// needs well under a millisecond, an interpreter a quarter of a second.
const LOOP_LIMIT: Duration = Duration::from_millis(50);

const REAL_MODE_NAME: &str = "a few instructions of real mode";
const LOOP_NAME: &str = "a loop of 64-bit kernel mode";
const EXCHANGE_NAME: &str = "lock cmpxchg16b";

/// Probes, and says how many instructions of kernel mode ran in a second if
/// that was measured.
pub(crate) fn bounded(device: &Path, level: Level) -> Result<Option<u64>, ProbeError> {
    let device = device.to_owned();
    within(RUN_LIMIT, move || attempt(&device, level))
}

/// Does the work in a thread, and calls it off when its time is up.
fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, ProbeError> + Send + 'static,
) -> Result<T, ProbeError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread = thread::Builder::new()
        .name("kvm-probe".into())
        .stack_size(256 << 10)
        .spawn(move || {
            // Nobody is there to hear an answer that is far too late.
            let ready = kick::block().map_err(|source| ProbeError::Thread { source });
            let _ = sender.send(ready.and_then(|()| work()));
        })
        .map_err(|source| ProbeError::Thread { source })?;
    let answer = receiver.recv_timeout(limit).or_else(|_| {
        kick::kick(&thread);
        receiver.recv_timeout(KICK_LIMIT)
    });
    match answer {
        Ok(answer) => {
            // It has answered, so it is about to end.
            let _ = thread.join();
            answer
        }
        // Stuck in a system call for good: the thread is left behind, there is
        // no way to end it.
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(ProbeError::Stuck {
            limit: limit + KICK_LIMIT,
        }),
    }
}

fn attempt(device: &Path, level: Level) -> Result<Option<u64>, ProbeError> {
    let (kvm, vm) = open(device)?;
    if level == Level::Open {
        return Ok(None);
    }
    let mut machine = Machine::new(&kvm, vm, Mode::Real, &REAL_MODE)?;
    expect(&mut machine, REAL_MODE_NAME, HELLO)?;
    drop(machine);
    if level == Level::Run {
        return Ok(None);
    }
    let vm = kvm.create_vm().map_err(|errno| ProbeError::NoVm {
        source: errno.into(),
    })?;
    let mut machine = Machine::new(&kvm, vm, Mode::Long, &kernel_mode())?;
    let speed = time_loop(&mut machine)?;
    expect(&mut machine, EXCHANGE_NAME, STORED)?;
    Ok(Some(speed))
}

/// Runs the loop, and says how many instructions a second that was.
fn time_loop(machine: &mut Machine) -> Result<u64, ProbeError> {
    let start = thread_time();
    let outcome = expect(machine, LOOP_NAME, LOOPED);
    let took = thread_time().saturating_sub(start);
    let rounds = match outcome {
        Ok(()) => u64::from(ROUNDS),
        // How far it came tells why: slow, or not going on at all.
        Err(hung @ ProbeError::Hung { .. }) => {
            let left = machine
                .vcpu
                .get_regs()
                .map_or_else(|_| ROUNDS.into(), |regs| regs.rcx);
            match u64::from(ROUNDS).saturating_sub(left) {
                0 => return Err(hung),
                done => done,
            }
        }
        Err(other) => return Err(other),
    };
    let instructions = rounds * INSTRUCTIONS_PER_ROUND;
    if took > LOOP_LIMIT {
        return Err(ProbeError::Slow {
            instructions,
            took,
            limit: LOOP_LIMIT,
        });
    }
    if rounds < u64::from(ROUNDS) {
        // Called off with hardly any processor time used: the node had none.
        return Err(ProbeError::Hung {
            code: LOOP_NAME,
            limit: RUN_LIMIT,
        });
    }
    let nanoseconds = took.as_nanos().max(1);
    Ok(u64::try_from(u128::from(instructions) * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX))
}

/// Runs the virtual CPU until it reports, and checks what it reports.
fn expect(machine: &mut Machine, code: &'static str, byte: u8) -> Result<(), ProbeError> {
    let stopped = |exit: String| Err(ProbeError::Stopped { exit, code });
    match machine.vcpu.run() {
        Ok(VcpuExit::IoOut(PORT, [said])) if *said == byte => Ok(()),
        Ok(VcpuExit::IoOut(PORT, said)) => stopped(format!("the wrong result {said:?}")),
        Ok(VcpuExit::InternalError) => Err(internal_error(machine, code)),
        Ok(VcpuExit::Shutdown) => stopped("a triple fault".into()),
        Ok(VcpuExit::FailEntry(reason, _)) => {
            stopped(format!("hardware entry failure {reason:#x}"))
        }
        Ok(other) => stopped(format!("{other:?}")),
        Err(errno) if errno.errno() == nix::libc::EINTR => Err(ProbeError::Hung {
            code,
            limit: RUN_LIMIT,
        }),
        Err(errno) => stopped(std::io::Error::from(errno).to_string()),
    }
}

/// `KVM_EXIT_INTERNAL_ERROR`: what is behind it.
fn internal_error(machine: &mut Machine, code: &'static str) -> ProbeError {
    const EMULATION: u32 = kvm_bindings::KVM_INTERNAL_ERROR_EMULATION;
    let run = machine.vcpu.get_kvm_run();
    // SAFETY: the exit reason is KVM_EXIT_INTERNAL_ERROR, for which KVM fills
    // this member of the union; it is plain numbers.
    #[expect(unsafe_code, reason = "the exit's details are a C union")]
    let suberror = unsafe { run.__bindgen_anon_1.internal.suberror };
    match suberror {
        EMULATION => ProbeError::NotEmulated { code },
        other => ProbeError::Stopped {
            exit: format!("KVM internal error {other}"),
            code,
        },
    }
}

/// Processor time of this thread, the guest's included.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KVM: &str = "/dev/kvm";

    /// A machine of this host's KVM, if it has one.
    fn machine(mode: Mode, code: &[u8]) -> Option<Machine> {
        match open(Path::new(KVM)) {
            Ok((kvm, vm)) => Some(Machine::new(&kvm, vm, mode, code).expect("a machine")),
            Err(error) => {
                eprintln!("skipped: {error}");
                None
            }
        }
    }

    #[test]
    fn a_guest_that_never_ends_is_called_off() {
        const JUMP_TO_ITSELF: [u8; 2] = [0xeb, 0xfe];
        let answer = within(Duration::from_millis(20), || {
            let Some(mut machine) = machine(Mode::Real, &JUMP_TO_ITSELF) else {
                return Ok(false);
            };
            expect(&mut machine, "a jump to itself", 0).map(|()| true)
        });
        assert!(
            matches!(answer, Ok(false) | Err(ProbeError::Hung { .. })),
            "{answer:?}"
        );
    }

    #[test]
    fn a_guest_that_crashes_or_lies_is_told_from_one_that_passes() {
        const UNDEFINED: [u8; 2] = [0x0f, 0x0b];
        let Some(mut crashing) = machine(Mode::Long, &UNDEFINED) else {
            return;
        };
        let error = expect(&mut crashing, "ud2", 0).expect_err("no exception handler");
        assert!(matches!(error, ProbeError::Stopped { .. }), "{error}");

        let Some(mut lying) = machine(Mode::Real, &REAL_MODE) else {
            return;
        };
        let error = expect(&mut lying, "hello", HELLO + 1).expect_err("another byte");
        assert_eq!(
            error.to_string(),
            "the virtual CPU stopped with the wrong result [67] while it ran hello"
        );
    }

    #[test]
    fn the_exchange_works_or_is_named() {
        let Some(mut machine) = machine(Mode::Long, &kernel_mode()) else {
            return;
        };
        expect(&mut machine, LOOP_NAME, LOOPED).expect("the loop ends, however slowly");
        match expect(&mut machine, EXCHANGE_NAME, STORED) {
            Ok(()) => {}
            Err(error) => {
                assert!(matches!(error, ProbeError::NotEmulated { .. }), "{error}");
                assert!(error.to_string().contains("lock cmpxchg16b"), "{error}");
            }
        }
    }

    #[test]
    fn kvm_that_does_not_answer_is_given_up() {
        let answer = within(Duration::from_millis(1), || {
            std::thread::park_timeout(Duration::from_secs(3));
            Ok(())
        });
        assert!(
            matches!(answer, Err(ProbeError::Stuck { .. })),
            "{answer:?}"
        );
    }
}
