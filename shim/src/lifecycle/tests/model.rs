//! The life cycle against a model of qemu and of those who ask.

use proptest::prelude::*;

use super::*;

/// What can happen to the model: requests, time, and a qemu that answers.
#[derive(Clone, Debug)]
enum Happening {
    Request(Input),
    Pass(u64),
    /// qemu takes its next command and replies.
    Reply,
    Guest(Input),
    Exit,
}

fn happening() -> impl Strategy<Value = Happening> {
    let desire = prop_oneof![Just(DesiredState::Running), Just(DesiredState::Paused)];
    prop_oneof![
        2 => Just(Happening::Request(Input::QmpReady)),
        2 => Just(Happening::Request(Input::Start)),
        6 => desire.prop_map(|wanted| Happening::Request(Input::Desire(wanted))),
        1 => (0..60u64).prop_map(|s| Happening::Request(Input::Stop { grace: Duration::from_secs(s) })),
        1 => Just(Happening::Request(Input::Kill)),
        1 => Just(Happening::Guest(Input::Shutdown(ShutdownCause::Guest))),
        1 => Just(Happening::Guest(Input::Panicked)),
        1 => Just(Happening::Guest(Input::Reset)),
        2 => Just(Happening::Request(Input::Mended)),
        1 => Just(Happening::Guest(Input::QmpLost("gone".into()))),
        4 => (0..20u64).prop_map(Happening::Pass),
        12 => Just(Happening::Reply),
        1 => Just(Happening::Exit),
    ]
}

/// A small qemu: commands wait in line, and `cont` and `stop` do what they say.
#[derive(Default)]
struct Model {
    ready: bool,
    line: std::collections::VecDeque<Command>,
    cpus_run: bool,
    quits: usize,
    kills: usize,
    stop_at: Option<Instant>,
    exited: bool,
}

impl Model {
    fn input(&mut self, happening: Happening, now: &mut Instant) -> Option<Input> {
        match happening {
            Happening::Request(Input::QmpReady) if self.ready => None,
            Happening::Request(input) | Happening::Guest(input) => {
                self.ready |= input == Input::QmpReady;
                Some(input)
            }
            Happening::Pass(seconds) => {
                *now += Duration::from_secs(seconds);
                Some(Input::Tick)
            }
            Happening::Reply => {
                let command = self.line.pop_front()?;
                match command {
                    Command::Cont => self.cpus_run = true,
                    Command::Stop => self.cpus_run = false,
                    Command::QueryStatus => {
                        let status = if self.cpus_run {
                            RunStatus::Running
                        } else {
                            RunStatus::Paused
                        };
                        return Some(Input::Status(status));
                    }
                    Command::Capabilities
                    | Command::Powerdown
                    | Command::Quit
                    | Command::BlockResize { .. } => {}
                }
                Some(Input::Done(command))
            }
            Happening::Exit => {
                self.exited = true;
                Some(exit(ExitCode::Code(0)))
            }
        }
    }

    fn perform(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Kill => self.kills += 1,
                Effect::Send(command) => {
                    assert!(self.ready, "{command} before qemu is ready");
                    self.quits += usize::from(*command == Command::Quit);
                    self.line.push_back(*command);
                }
            }
        }
    }

    fn check(&self, vm: &Vm, now: Instant) {
        assert!(self.quits <= 1 && self.kills <= 1, "ended more than once");
        if let Some(at) = self.stop_at.filter(|at| now >= *at) {
            let ends = matches!(vm, Vm::Ending { .. } | Vm::Exited(_));
            assert!(ends, "still {} at its deadline", vm.name());
            let kill_at = at + KILL_GRACE.max(EXIT_GRACE);
            assert!(now < kill_at || self.kills == 1 || self.exited || vm.deadline().is_some());
        }
        if self.line.is_empty() {
            match vm {
                Vm::Running => assert!(self.cpus_run, "said to run, and does not"),
                Vm::Paused { .. } => assert!(!self.cpus_run, "said to be paused, and is not"),
                Vm::Starting | Vm::Pausing | Vm::Resuming => panic!("waits for nothing"),
                Vm::Creating { .. }
                | Vm::Created { .. }
                | Vm::Stopping { .. }
                | Vm::Ending { .. }
                | Vm::Exited(_) => {}
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_invariants_hold(happenings in prop::collection::vec(happening(), 0..80)) {
        let mut now = origin();
        let mut vm = Vm::new(now + 20 * GRACE, DesiredState::Running);
        let mut model = Model::default();
        for happening in happenings {
            let Some(input) = model.input(happening, &mut now) else { continue };
            if let (Input::Stop { grace }, false) =
                (&input, matches!(vm, Vm::Stopping { .. } | Vm::Ending { .. } | Vm::Exited(_)))
            {
                model.stop_at = Some(now + *grace);
            }
            let before = vm.clone();
            // The owner ticks before anything else once a deadline has passed.
            let (ticked, first) = vm.step(Input::Tick, now);
            let (next, second) = ticked.step(input, now);
            let (next, third) = next.step(Input::Tick, now);
            let effects = [first, second, third].concat();
            if matches!(before, Vm::Exited(_)) {
                prop_assert!(effects.is_empty() && next == before, "something after the end");
            }
            model.perform(&effects);
            model.check(&next, now);
            vm = next;
        }
    }

    #[test]
    fn after_stop_it_ends_by_its_deadlines_whatever_the_guest_does(
        grace in 0..120u64,
        resets in prop::collection::vec(0..120u64, 0..6),
    ) {
        let start = origin();
        let (mut vm, _) = running(start).step(Input::Stop { grace: Duration::from_secs(grace) }, start);
        let mut effects = Vec::new();
        for second in 0..=grace + KILL_GRACE.as_secs() {
            let now = start + Duration::from_secs(second);
            if resets.contains(&second) {
                vm = vm.step(Input::Reset, now).0;
            }
            while vm.deadline().is_some_and(|at| at <= now) {
                let (next, more) = vm.step(Input::Tick, now);
                vm = next;
                effects.extend(more);
            }
        }
        let count = |wanted| effects.iter().filter(|effect| **effect == wanted).count();
        prop_assert_eq!(count(Effect::Send(Command::Quit)), 1);
        prop_assert_eq!(count(Effect::Kill), 1);
        prop_assert!(count(Effect::Send(Command::Powerdown)) <= PRESS_AGAIN.len() + resets.len());
    }
}
