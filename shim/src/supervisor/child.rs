//! qemu as a child process.
//!
//! It gets the two sockets by number and nothing else that is open here, a
//! process group of its own, an empty environment, and it dies with the shim:
//! a qemu without a shim would write to a disk that nobody guards.

use std::{
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, killpg},
    },
    unistd::{Pid, getpid, getppid},
};
use tokio::net::{UnixStream, unix::pipe};
use tracing::error;

use crate::qemu::Descriptors;

/// Environment variables that qemu may see: where to put temporary files, and
/// what finds programs and libraries in other images than ours.
const ENVIRONMENT: [&str; 4] = ["LD_LIBRARY_PATH", "PATH", "QEMU_MODULE_DIR", "TMPDIR"];

/// Why qemu could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The sockets to it could not be made.
    #[error("the sockets to qemu cannot be made")]
    Sockets {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The program could not be started.
    #[error("qemu cannot be started from {}", program.display())]
    Program {
        /// Its path.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// A qemu that was started.
#[derive(Debug)]
pub struct Spawned {
    /// What its supervisor needs.
    pub process: Process,
    /// Our end of the serial console.
    pub serial: UnixStream,
}

/// A qemu for a supervisor.
#[derive(Debug)]
pub struct Process {
    pub(super) qemu: Qemu,
    pub(super) qmp: UnixStream,
    pub(super) stderr: pipe::Receiver,
}

impl Process {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.qemu.id()
    }
}

/// A qemu that has not been reaped, which is what makes its process id its own.
#[derive(Debug)]
pub(super) struct Qemu(Pid);

impl Qemu {
    pub(super) fn pid(&self) -> Pid {
        self.0
    }

    pub(super) fn id(&self) -> u32 {
        self.0.as_raw().unsigned_abs()
    }

    /// Kills it with its process group.
    pub(super) fn kill(&self) {
        match killpg(self.0, Signal::SIGKILL) {
            // It has ended, and that is yet to be heard.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => error!(%error, "qemu cannot be killed"),
        }
    }
}

/// Starts qemu with the arguments that `arguments` makes for its sockets.
///
/// Must be called on the process's main thread: the kernel ends qemu when the
/// thread that started it ends.
///
/// # Errors
/// See [`SpawnError`]; no process is left then.
pub fn spawn(
    program: &Path,
    arguments: impl FnOnce(&Descriptors) -> Vec<String>,
) -> Result<Spawned, SpawnError> {
    let sockets = |source| SpawnError::Sockets { source };
    let (qmp, qmp_of_qemu) = socket_pair().map_err(sockets)?;
    let (serial, serial_of_qemu) = socket_pair().map_err(sockets)?;
    let descriptors = Descriptors {
        qmp: qmp_of_qemu.as_raw_fd(),
        serial: serial_of_qemu.as_raw_fd(),
    };
    let (stderr, stderr_of_qemu) = io::pipe().map_err(sockets)?;
    let stderr = pipe::Receiver::from_owned_fd(stderr.into()).map_err(sockets)?;

    let mut command = Command::new(program);
    command
        .args(arguments(&descriptors))
        .env_clear()
        .envs(
            ENVIRONMENT
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr_of_qemu)
        .process_group(0);
    inherit(&mut command, [qmp_of_qemu, serial_of_qemu]);
    let child = command.spawn().map_err(|source| SpawnError::Program {
        program: program.to_owned(),
        source,
    })?;
    // Dropping the child neither ends nor reaps it; the supervisor does both.
    let pid = Pid::from_raw(child.id().cast_signed());
    Ok(Spawned {
        process: Process {
            qemu: Qemu(pid),
            qmp,
            stderr,
        },
        serial,
    })
}

/// A connected pair, the first end for us.
fn socket_pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

/// Has the child keep the descriptors over exec, and die with this thread.
/// They are closed here when the command is dropped.
fn inherit(command: &mut Command, descriptors: [OwnedFd; 2]) {
    let parent = getpid();
    let prepare = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above.
        if getppid() != parent {
            return Err(Errno::ESRCH.into());
        }
        for descriptor in &descriptors {
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    #[expect(
        unsafe_code,
        reason = "the standard library has no safe way to act after fork"
    )]
    // SAFETY: the closure makes three kinds of system calls, all of them
    // async-signal-safe, and neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(prepare);
    }
}
