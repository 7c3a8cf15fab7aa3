//! Container logs as the runtime writes them for the kubelet (CRI log format:
//! `<time> <stream> <tags> <bytes>`), turned back into the bytes that the
//! container wrote.

use std::path::Path;

/// A container's output stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output: the guest's console.
    Stdout,
    /// Standard error: the shim's log.
    Stderr,
}

/// One line of a log file, without its line feed; `None` for what is no log
/// line.
#[must_use]
pub fn parse(line: &[u8]) -> Option<(Stream, Vec<u8>)> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let _time = fields.next()?;
    let stream = match fields.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let partial = fields
        .next()?
        .split(|byte| *byte == b':')
        .any(|tag| tag == b"P");
    let mut content = fields.next().unwrap_or_default().to_vec();
    if !partial {
        content.push(b'\n');
    }
    Some((stream, content))
}

/// What a container wrote to one stream so far.
pub fn read(path: &Path, wanted: Stream) -> std::io::Result<Vec<u8>> {
    let bytes = std::fs::read(path)?;
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(parse);
    Ok(lines
        .filter(|(stream, _)| *stream == wanted)
        .flat_map(|(_, content)| content)
        .collect())
}

/// What of `log` comes after what was shown already. `shown` are the last
/// bytes that were shown; a console that was joined late may not have shown
/// the beginning.
#[must_use]
pub fn unseen<'a>(log: &'a [u8], shown: &[u8]) -> &'a [u8] {
    if shown.is_empty() {
        return log;
    }
    // The log ends lines that the guest left open.
    let end = log.windows(shown.len()).rposition(|window| window == shown);
    match end {
        Some(start) => &log[start + shown.len()..],
        None => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_parts_of_lines_become_the_bytes_that_were_written() {
        let full = parse(b"2026-11-25T03:00:00.1Z stdout F boot\r").expect("parses");
        assert_eq!(full, (Stream::Stdout, b"boot\r\n".to_vec()));
        let part = parse(b"2026-11-25T03:00:00.1Z stderr P half").expect("parses");
        assert_eq!(part, (Stream::Stderr, b"half".to_vec()));
        assert_eq!(
            parse(b"2026 stdout F "),
            Some((Stream::Stdout, b"\n".to_vec()))
        );
        assert_eq!(parse(b"garbage"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn only_what_was_not_shown_is_shown_at_the_end() {
        assert_eq!(unseen(b"one\ntwo\n", b""), b"one\ntwo\n");
        assert_eq!(unseen(b"one\ntwo\n", b"one\n"), b"two\n");
        assert_eq!(unseen(b"one\ntwo\n", b"one\ntwo\n"), b"");
        assert_eq!(unseen(b"one\n", b"never logged"), b"");
    }
}
