//! The directory of the sockets: what a kubelet that starts finds there, and
//! its own socket in it.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use tokio::net::UnixListener;

use crate::error::KubeletError;
use crate::options::Takeover;

/// Makes the directory ready and listens on `socket` in it.
pub(super) fn take_over(
    dir: &Path,
    socket: &Path,
    takeover: Takeover,
) -> Result<UnixListener, KubeletError> {
    let failed = |path: &Path, source| KubeletError::Directory {
        path: path.to_owned(),
        source,
    };
    fs::create_dir_all(dir).map_err(|source| failed(dir, source))?;
    match takeover {
        Takeover::Wipe => wipe(dir)?,
        Takeover::Keep => match fs::remove_file(socket) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(failed(socket, source));
            }
            _ => {}
        },
        Takeover::Replace => {
            let new = dir.join(".kubelet.sock.new");
            let listener = listen(&new)?;
            fs::rename(&new, socket).map_err(|source| failed(socket, source))?;
            return Ok(listener);
        }
    }
    listen(socket)
}

fn listen(path: &Path) -> Result<UnixListener, KubeletError> {
    UnixListener::bind(path).map_err(|source| KubeletError::Listen {
        path: path.to_owned(),
        source,
    })
}

/// Removes every socket; the real kubelet keeps its checkpoint here, so other
/// files stay.
fn wipe(dir: &Path) -> Result<(), KubeletError> {
    let failed = |source| KubeletError::Directory {
        path: dir.to_owned(),
        source,
    };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_socket() {
            match fs::remove_file(entry.path()) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(source));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
