//! A call as kubelets before 1.26 make it: with the path of the plugin's
//! socket as HTTP/2 `:authority` (RFC 9113 §8.3.1 knows no such authority, and
//! no library that we use would send it, so these are plain frames).

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATH: &str = "/v1beta1.DevicePlugin/ListAndWatch";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

/// What became of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The stream was reset with this error code; 1 is `PROTOCOL_ERROR`.
    Reset(u32),
    /// There was an answer.
    Headers,
}

/// Calls `ListAndWatch`, and says what came first.
pub(crate) async fn call(socket: &Path, authority: &str) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket).await?;
    let mut sent = PREFACE.to_vec();
    sent.extend(frame(SETTINGS, 0, 0, &[]));
    sent.extend(frame(HEADERS, END_HEADERS, 1, &headers(authority)));
    // An empty message: not compressed, no bytes.
    sent.extend(frame(DATA, END_STREAM, 1, &[0; 5]));
    stream.write_all(&sent).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await?;
        match (head[3], payload.as_slice()) {
            (RST_STREAM, &[a, b, c, d]) => {
                return Ok(Answer::Reset(u32::from_be_bytes([a, b, c, d])));
            }
            (HEADERS, _) => return Ok(Answer::Headers),
            _ => {}
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let head = [a, b, c, kind, flags, 0, 0, 0, stream];
    [&head, payload].concat()
}

/// The header block, without compression (RFC 7541 §6.2.2).
fn headers(authority: &str) -> Vec<u8> {
    let text = |text: &str| {
        let length = u8::try_from(text.len()).unwrap_or(0).min(126);
        [&[length], &text.as_bytes()[..usize::from(length)]].concat()
    };
    [
        // ":method: POST" and ":scheme: http" of the static table.
        vec![0x83, 0x86],
        // Names of the static table: ":path", ":authority", "content-type".
        [vec![0x04], text(PATH)].concat(),
        [vec![0x01], text(authority)].concat(),
        [vec![0x0f, 0x10], text("application/grpc")].concat(),
        [vec![0x00], text("te"), text("trailers")].concat(),
    ]
    .concat()
}
