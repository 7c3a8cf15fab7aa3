//! A place for one VM, and the shim that runs there.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use coracle_api::{
    machine::{Cpu, Disk, DiskSource, Firmware, MACHINE_VERSION, Machine},
    names,
    report::{State, Status, TerminationMessage},
    types::{
        Accelerator, CacheMode, DetectZeroes, DiscardMode, DiskBus, DiskType, ErrorPolicy, IoMode,
    },
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::collect::Collected;

/// How long a test waits before it calls itself failed. Never reached when all
/// is well, however busy the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The shim.
pub(crate) const SHIM: &str = env!("CARGO_BIN_EXE_coracle-shim");

/// The image of a guest in `tests/guests`, to be copied.
fn guest(name: &str) -> PathBuf {
    static IMAGES: OnceLock<PathBuf> = OnceLock::new();
    let images = IMAGES.get_or_init(|| {
        let images = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/build.sh");
        let built = Command::new(script)
            .arg(&images)
            .output()
            .expect("build.sh runs");
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        images
    });
    images.join(format!("{name}.img"))
}

/// Whether the real qemu is there; says so where it is not.
pub(crate) fn has_qemu() -> bool {
    let there = Path::new(coracle_shim::qemu::PROGRAM).exists();
    if !there {
        eprintln!("skipped: {} is not installed", coracle_shim::qemu::PROGRAM);
    }
    there
}

/// Directories, machine description and disk of one VM.
pub(crate) struct Bench {
    dir: TempDir,
    qemu: Option<PathBuf>,
    pub(crate) machine: Machine,
}

impl Bench {
    /// A VM with this guest on its only disk.
    pub(crate) fn new(guest_name: &str) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir(dir.path().join("config")).expect("mkdir");
        let image = dir.path().join("disk.img");
        fs::copy(guest(guest_name), &image).expect("copy");
        let bench = Self {
            machine: machine(&image),
            qemu: None,
            dir,
        };
        bench.desire("Running");
        bench.write_machine();
        bench
    }

    /// The same with a fake qemu that has this fault.
    pub(crate) fn with_fault(fault: &str) -> Self {
        let mut bench = Self::new("hello-poweroff");
        let qemu = bench.path(fault);
        symlink(env!("CARGO_BIN_EXE_fake-qemu"), &qemu).expect("symlink");
        bench.qemu = Some(qemu);
        bench
    }

    pub(crate) fn set_qemu(&mut self, program: &str) {
        self.qemu = Some(program.into());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the machine description.
    pub(crate) fn write_machine(&self) {
        self.write_description(&self.machine.to_json());
    }

    pub(crate) fn write_description(&self, text: &str) {
        fs::write(self.path("config").join(names::MACHINE_FILE), text).expect("write");
    }

    /// Writes the wanted state.
    pub(crate) fn desire(&self, text: &str) {
        fs::write(self.path("config").join(names::DESIRED_FILE), text).expect("write");
    }

    /// The shim's command line.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(SHIM);
        command
            .args(self.options())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn options(&self) -> Vec<String> {
        let option = |name: &str, file: &str| format!("--{name}={}", self.path(file).display());
        let mut options = vec![
            option("config-dir", "config"),
            option("run-dir", "run"),
            option("termination-log", "termination-log"),
        ];
        options.extend(
            self.qemu
                .iter()
                .map(|qemu| format!("--qemu={}", qemu.display())),
        );
        options
    }

    /// Runs a subcommand to its end.
    pub(crate) fn call(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the shim runs")
    }

    /// Runs a subcommand that must succeed; what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a subcommand that must be refused; what it said.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    pub(crate) fn state(&self) -> State {
        serde_json::from_str(&self.ok(&["state"])).expect("a state")
    }

    pub(crate) fn wait_for_status(&self, status: Status) {
        while self.state().status != status {}
    }

    /// Starts `run`.
    pub(crate) fn run(&self) -> Running {
        self.run_with(&[])
    }

    /// Starts `run` with more options.
    pub(crate) fn run_with(&self, options: &[&str]) -> Running {
        let mut command = self.command(&["run"]);
        command.args(options);
        Running::start(command)
    }

    /// The termination message.
    pub(crate) fn termination(&self) -> TerminationMessage {
        let text = fs::read_to_string(self.path("termination-log")).expect("a message");
        serde_json::from_str(&text).expect("JSON")
    }
}

fn machine(image: &Path) -> Machine {
    Machine {
        version: MACHINE_VERSION,
        name: "web".into(),
        namespace: "shop".into(),
        uid: None,
        accelerator: Accelerator::Emulation,
        cpu: Cpu {
            sockets: 1,
            cores: 1,
            threads: 1,
            model: None,
        },
        memory_bytes: 64 << 20,
        firmware: Firmware::Bios {},
        disks: vec![Disk {
            name: "root".into(),
            source: DiskSource::File {
                path: image.display().to_string(),
                create_bytes: None,
            },
            bus: DiskBus::Virtio,
            disk_type: DiskType::Disk,
            cache: CacheMode::Writeback,
            io: IoMode::Threads,
            discard: DiscardMode::Unmap,
            detect_zeroes: DetectZeroes::Ignore,
            error_policy: ErrorPolicy::Stop,
            read_only: false,
            shareable: false,
            serial: "root".into(),
            boot_index: Some(1),
            iothread: false,
            queues: None,
            block_size: None,
            throttle: None,
        }],
        interfaces: vec![],
        devices: vec![],
        shutdown_seconds: 600,
    }
}

/// A process whose output is collected while it runs. Killed when dropped.
pub(crate) struct Running {
    child: Option<Child>,
    pid: Pid,
    stdout: Collected,
    stderr: Collected,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stdout = Collected::new(child.stdout.take().expect("piped"));
        let stderr = Collected::new(child.stderr.take().expect("piped"));
        let pid = Pid::from_raw(child.id().cast_signed());
        Self {
            child: Some(child),
            pid,
            stdout,
            stderr,
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    pub(crate) fn stdin(&mut self) -> std::process::ChildStdin {
        self.child
            .as_mut()
            .expect("it runs")
            .stdin
            .take()
            .expect("piped")
    }

    /// Waits until standard output has this text.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        let found = self.stdout.wait_for(text);
        if !found && self.stdout.has_ended() {
            self.stderr.wait_for_end();
        }
        assert!(
            found,
            "no {text:?} in:\n{}\n{}",
            self.stdout.text(),
            self.stderr.text()
        );
    }

    /// Waits until standard error has this text.
    pub(crate) fn wait_for_log(&self, text: &str) {
        assert!(
            self.stderr.wait_for(text),
            "no {text:?} in:\n{}",
            self.stderr.text()
        );
    }

    /// Whether standard error has this text before it ends.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.stderr.wait_for(text)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("it runs");
    }

    /// Waits for its end; how it ended and what it printed.
    pub(crate) fn end(mut self) -> Ended {
        let mut child = self.child.take().expect("it runs");
        let (send, receive) = mpsc::channel();
        thread::spawn(move || send.send(child.wait()));
        let Ok(status) = receive.recv_timeout(PATIENCE) else {
            let _ = kill(self.pid, Signal::SIGKILL);
            panic!(
                "it does not end:\n{}\n{}",
                self.stdout.text(),
                self.stderr.text()
            );
        };
        self.stdout.wait_for_end();
        self.stderr.wait_for_end();
        Ended {
            status: status.expect("it is a child"),
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How a process ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn assert_code(&self, code: u8) {
        assert_eq!(self.status.code(), Some(code.into()), "{}", self.stderr);
    }
}

/// Whether a thread of the process is there that is not just waiting to be
/// reaped: until the last one is gone, its files are open.
pub(crate) fn is_alive(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok())
        .any(|stat| {
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
        })
}
