use coracle_api::report::TerminationReason as Reason;

use super::*;

mod model;

const GRACE: Duration = Duration::from_secs(30);

fn origin() -> Instant {
    Instant::now()
}

/// Steps through the inputs, all at one time; the last state and all effects.
fn run(from: Vm, inputs: impl IntoIterator<Item = Input>, now: Instant) -> (Vm, Vec<Effect>) {
    inputs
        .into_iter()
        .fold((from, Vec::new()), |(vm, mut effects), input| {
            let (vm, more) = vm.step(input, now);
            effects.extend(more);
            (vm, effects)
        })
}

fn creating(now: Instant) -> Vm {
    Vm::new(now + GRACE, DesiredState::Running)
}

fn running(now: Instant) -> Vm {
    let inputs = [Input::QmpReady, Input::Start, Input::Done(Command::Cont)];
    let (vm, effects) = run(creating(now), inputs, now);
    assert_eq!(
        (&vm, &effects[..]),
        (&Vm::Running, &[Effect::Send(Command::Cont)][..])
    );
    vm
}

fn exit(code: ExitCode) -> Input {
    Input::QemuExited(Exit {
        code,
        stderr: "boom".into(),
    })
}

fn reason(vm: &Vm) -> Reason {
    vm.termination().expect("it has ended").reason
}

#[test]
fn a_start_before_qemu_is_ready_is_remembered() {
    let now = origin();
    let (vm, effects) = run(
        creating(now),
        [Input::Start, Input::Start, Input::QmpReady],
        now,
    );
    assert_eq!(
        (vm, effects),
        (Vm::Starting, vec![Effect::Send(Command::Cont)])
    );
}

#[test]
fn a_vm_that_is_to_be_paused_never_runs_before() {
    let now = origin();
    let inputs = [
        Input::Desire(DesiredState::Paused),
        Input::QmpReady,
        Input::Start,
    ];
    let (vm, effects) = run(creating(now), inputs, now);
    assert_eq!(
        (vm, effects),
        (
            Vm::Paused {
                cause: PauseCause::Asked
            },
            vec![]
        )
    );
}

#[test]
fn stop_before_start_quits_without_the_button() {
    let now = origin();
    let inputs = [Input::QmpReady, Input::Stop { grace: GRACE }];
    let (vm, effects) = run(creating(now), inputs, now);
    assert_eq!(effects, [Effect::Send(Command::Quit)]);
    let (vm, _) = vm.step(exit(ExitCode::Code(0)), now);
    assert_eq!(reason(&vm), Reason::Stopped);
}

#[test]
fn stop_before_qemu_answers_kills_it() {
    let now = origin();
    let (vm, effects) = creating(now).step(Input::Stop { grace: GRACE }, now);
    assert_eq!(effects, [Effect::Kill]);
    assert_eq!(
        reason(&vm.step(exit(ExitCode::Signal(9)), now).0),
        Reason::Stopped
    );
}

#[test]
fn qemu_that_does_not_answer_is_killed() {
    let now = origin();
    let (vm, effects) = creating(now).step(Input::Tick, now + GRACE);
    assert_eq!(effects, [Effect::Kill]);
    let (vm, _) = vm.step(exit(ExitCode::Signal(9)), now);
    assert_eq!(reason(&vm), Reason::QemuFailed);
    assert!(
        vm.termination()
            .expect("ended")
            .message
            .ends_with("in time: boom")
    );
}

#[test]
fn a_paused_guest_is_woken_to_see_the_button() {
    let now = origin();
    let inputs = [
        Input::Desire(DesiredState::Paused),
        Input::CpusStopped,
        Input::Done(Command::Stop),
        Input::Stop { grace: GRACE },
    ];
    let (_, effects) = run(running(now), inputs, now);
    let sent = [Command::Stop, Command::Cont, Command::Powerdown].map(Effect::Send);
    assert_eq!(effects, sent);
}

#[test]
fn the_button_is_pressed_again_twice_and_after_a_reset() {
    let now = origin();
    let (mut vm, _) = running(now).step(Input::Stop { grace: 10 * GRACE }, now);
    let mut pressed_at = Vec::new();
    for second in 0..100 {
        let at = now + Duration::from_secs(second);
        let effects;
        (vm, effects) = vm.step(Input::Tick, at);
        pressed_at.extend(effects.iter().map(|_| second));
    }
    assert_eq!(pressed_at, [5, 15]);
    let at = now + Duration::from_secs(100);
    let (vm, _) = vm.step(Input::Reset, at);
    assert_eq!(vm.deadline(), Some(at + PRESS_AGAIN[0]));
}

#[test]
fn a_guest_that_ignores_the_button_is_ended_at_the_deadline() {
    let now = origin();
    let (vm, _) = running(now).step(Input::Stop { grace: GRACE }, now);
    let (vm, effects) = vm.step(Input::Tick, now + GRACE);
    assert_eq!(effects, [Effect::Send(Command::Quit)]);
    let (vm, effects) = vm.step(Input::Tick, now + GRACE + KILL_GRACE);
    assert_eq!(effects, [Effect::Kill]);
    assert_eq!(
        reason(&vm.step(exit(ExitCode::Signal(9)), now).0),
        Reason::Killed
    );
}

#[test]
fn the_reason_is_the_cause_and_not_what_came_of_it() {
    let now = origin();
    let guest = Input::Shutdown(ShutdownCause::Guest);
    let stop = Input::Stop { grace: GRACE };
    let ok = || exit(ExitCode::Code(0));
    let cases = [
        (vec![guest.clone(), ok()], Reason::GuestShutdown),
        (vec![stop.clone(), guest.clone(), ok()], Reason::Stopped),
        (vec![stop.clone(), ok()], Reason::Stopped),
        (vec![stop, exit(ExitCode::Signal(11))], Reason::QemuFailed),
        (
            vec![Input::Kill, Input::Shutdown(ShutdownCause::Quit), ok()],
            Reason::Killed,
        ),
        (
            vec![Input::Panicked, Input::Shutdown(ShutdownCause::Quit), ok()],
            Reason::GuestPanicked,
        ),
        (
            vec![Input::Shutdown(ShutdownCause::GuestPanic), ok()],
            Reason::GuestPanicked,
        ),
        (
            vec![Input::Shutdown(ShutdownCause::Signal), ok()],
            Reason::QemuFailed,
        ),
        (
            vec![Input::Shutdown(ShutdownCause::Other), ok()],
            Reason::QemuFailed,
        ),
        (
            vec![
                Input::CpusStopped,
                Input::Status(RunStatus::InternalError),
                ok(),
            ],
            Reason::AcceleratorFailed,
        ),
        (
            vec![Input::QmpLost("closed".into()), exit(ExitCode::Code(1))],
            Reason::QemuFailed,
        ),
        (vec![exit(ExitCode::Code(1))], Reason::QemuFailed),
        (vec![exit(ExitCode::Signal(9))], Reason::QemuFailed),
    ];
    for (inputs, expected) in cases {
        let shown = format!("{inputs:?}");
        assert_eq!(
            reason(&run(running(now), inputs, now).0),
            expected,
            "{shown}"
        );
    }
}

#[test]
fn a_disk_error_pauses_and_resume_tries_again() {
    let now = origin();
    let inputs = [Input::CpusStopped, Input::Status(RunStatus::IoError)];
    let (vm, _) = run(running(now), inputs, now);
    assert_eq!(
        vm,
        Vm::Paused {
            cause: PauseCause::DiskError
        }
    );
    let (vm, effects) = vm.step(Input::Desire(DesiredState::Running), now);
    assert_eq!(
        (vm, effects),
        (Vm::Resuming, vec![Effect::Send(Command::Cont)])
    );
}

#[test]
fn qemu_that_refuses_to_run_the_guest_is_ended() {
    let now = origin();
    let failed = Input::Failed(Command::Cont, "lock".into());
    let (vm, effects) = run(creating(now), [Input::QmpReady, Input::Start, failed], now);
    assert_eq!(effects, [Command::Cont, Command::Quit].map(Effect::Send));
    let exit = Exit {
        code: ExitCode::Code(0),
        stderr: String::new(),
    };
    let (vm, _) = vm.step(Input::QemuExited(exit), now);
    let message = &vm.termination().expect("ended").message;
    assert_eq!(message, "qemu refused to run the guest: lock");
}

#[test]
fn requests_are_judged_by_the_state() {
    let now = origin();
    let created = creating(now).step(Input::QmpReady, now).0;
    let paused = Vm::Paused {
        cause: PauseCause::Asked,
    };
    let stopping = running(now).step(Input::Stop { grace: GRACE }, now).0;
    let exited = running(now).step(exit(ExitCode::Code(0)), now).0;
    let refused = |verdict| matches!(verdict, Verdict::Refused(_));
    assert_eq!(created.judge(Request::Start), Verdict::Proceed);
    assert!(refused(created.judge(Request::Pause)));
    assert_eq!(Vm::Running.judge(Request::Start), Verdict::Already);
    assert_eq!(Vm::Running.judge(Request::Pause), Verdict::Proceed);
    assert_eq!(paused.judge(Request::Pause), Verdict::Already);
    assert_eq!(paused.judge(Request::Resume), Verdict::Proceed);
    assert_eq!(stopping.judge(Request::Term), Verdict::Already);
    assert_eq!(stopping.judge(Request::Kill), Verdict::Proceed);
    assert!(refused(stopping.judge(Request::Resume)));
    assert!(refused(exited.judge(Request::Start)));
    assert_eq!(exited.judge(Request::Kill), Verdict::Already);
}
