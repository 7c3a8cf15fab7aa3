//! A qemu with faults, for the tests: it takes qemu's arguments and its QMP
//! socket, and then fails in the way that its own file name says.

use std::{
    env,
    fs::File,
    io::{BufRead, BufReader, Write},
    os::{
        fd::{FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::Path,
    process,
};

const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 99}, "package": ""}, "capabilities": ["oob"]}}"#;
const SHUTDOWN: &str = r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}, "timestamp": {"seconds": 1, "microseconds": 2}}"#;

fn main() {
    let mut arguments = env::args();
    let program = arguments.next().unwrap_or_default();
    let fault = Path::new(&program)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    let descriptor = arguments
        .iter()
        .find_map(|argument| qmp_descriptor(argument));
    let mut qmp = Qmp::new(descriptor);
    let disks = arguments.iter().filter_map(|argument| disk(argument));
    let _disks: Vec<File> = match fault {
        "opens-another-disk" => vec![],
        _ => disks
            .map(|path| File::open(path).expect("is there"))
            .collect(),
    };
    misbehave(fault, &mut qmp);
}

fn misbehave(fault: &str, qmp: &mut Qmp) {
    match fault {
        "exits-at-once" => {
            eprintln!("fake-qemu: -device nonsense: there is no such device");
            process::exit(1);
        }
        "never-greets" => qmp.listen_for_ever(),
        "greets-with-garbage" => {
            qmp.say("\u{0}\u{1}SSH-2.0-OpenSSH");
            qmp.listen_for_ever();
        }
        "sends-the-unknown" => {
            qmp.start();
            qmp.say(r#"{"event": "MOON_RISES", "data": [1, {"phase": null}]}"#);
            qmp.say("this is not JSON");
            qmp.say(r#"{"return": {}, "id": 4711}"#);
            qmp.say(&format!(
                r#"{{"event": "LONG", "data": "{}"}}"#,
                "x".repeat(100_000)
            ));
            qmp.say(SHUTDOWN);
        }
        "ignores-everything" => {
            qmp.start();
            qmp.listen_for_ever();
        }
        "dies-in-the-middle" => {
            qmp.start();
            eprintln!("fake-qemu: an assertion failed");
            process::abort();
        }
        "opens-another-disk" => {
            qmp.say(GREETING);
            qmp.reply(r#""return": {}"#);
            qmp.listen_for_ever();
        }
        "refuses-to-run" => {
            qmp.say(GREETING);
            qmp.reply(r#""return": {}"#);
            qmp.reply(r#""error": {"class": "GenericError", "desc": "the image is locked"}"#);
            qmp.reply(r#""return": {}"#);
        }
        other => {
            eprintln!("fake-qemu: unknown fault {other:?}");
            process::exit(1);
        }
    }
}

/// The number in `socket,id=qmp0,fd=7`.
fn qmp_descriptor(argument: &str) -> Option<RawFd> {
    argument
        .strip_prefix("socket,id=qmp")?
        .split_once("fd=")?
        .1
        .parse()
        .ok()
}

/// The path in `{"driver":"file",…,"filename":"/disk.img",…}`.
fn disk(argument: &str) -> Option<&str> {
    let (_, rest) = argument.split_once("\"filename\":\"")?;
    rest.split('"').next()
}

struct Qmp(BufReader<UnixStream>);

impl Qmp {
    fn new(descriptor: Option<RawFd>) -> Self {
        let Some(descriptor) = descriptor else {
            eprintln!("fake-qemu: there is no QMP socket in the arguments");
            process::exit(1);
        };
        #[expect(
            unsafe_code,
            reason = "an inherited descriptor has no owner before this"
        )]
        // SAFETY: the parent passed the descriptor for this process's use, and
        // nothing else here knows of it.
        let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Self(BufReader::new(owned.into()))
    }

    fn say(&mut self, line: &str) {
        self.0
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())
            .expect("the shim listens");
    }

    /// Reads a command and replies to it.
    fn reply(&mut self, reply: &str) {
        let mut command = String::new();
        self.0.read_line(&mut command).expect("the shim speaks");
        let id = command
            .split_once("\"id\":")
            .and_then(|(_, rest)| rest.split(['}', ',']).next());
        self.say(&format!("{{\"id\": {}, {reply}}}", id.unwrap_or("0")));
    }

    /// Greeting, negotiation and `cont`.
    fn start(&mut self) {
        self.say(GREETING);
        self.reply(r#""return": {}"#);
        self.reply(r#""return": {}"#);
    }

    /// Takes what comes and does nothing; the only way out is a signal.
    fn listen_for_ever(&mut self) {
        let mut line = Vec::new();
        while self
            .0
            .read_until(b'\n', &mut line)
            .is_ok_and(|length| length > 0)
        {
            line.clear();
        }
        loop {
            std::thread::park();
        }
    }
}
