//! How a VM ended, from its exit code and its termination message.

use std::path::Path;

use coracle_api::names::TERMINATION_LOG_MAX;
use coracle_api::report::TerminationMessage;

use crate::console::read_limited;
use crate::cri::Exit;
use crate::report::{End, Report, printable};

/// Reads the termination message that goes with an exit.
pub(super) fn read(termination_log: &Path, exit: &Exit) -> End {
    let limit = u64::try_from(TERMINATION_LOG_MAX).unwrap_or(u64::MAX);
    let text = read_limited(termination_log, limit).unwrap_or_default();
    let termination: Option<TerminationMessage> = serde_json::from_str(&text).ok();
    let raw = (termination.is_none() && !text.trim().is_empty()).then(|| printable(&text));
    End {
        exit_code: exit.code,
        runtime_reason: exit.reason.clone(),
        termination,
        raw,
    }
}

/// One sentence about an end that was no good one.
pub(super) fn error(report: &Report) -> String {
    let Some(end) = &report.end else {
        return format!("VM {} ended", report.vm);
    };
    let vm = &report.vm;
    let text = match (&end.termination, &end.raw) {
        (Some(said), _) => format!("VM {vm}: {} ({:?})", said.message, said.reason),
        (None, Some(raw)) => format!("VM {vm} ended with exit code {}: {raw}", end.exit_code),
        (None, None) if end.runtime_reason == "OOMKilled" => {
            format!("VM {vm} ran out of its memory limit and was killed by the kernel")
        }
        // 128 and the number of a signal.
        (None, None) if end.exit_code > 128 => {
            format!(
                "VM {vm}: its shim was killed by signal {}",
                end.exit_code - 128
            )
        }
        (None, None) => format!("VM {vm} ended with exit code {}", end.exit_code),
    };
    printable(&text)
}
