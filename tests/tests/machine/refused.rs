//! A run that does not come about.

use std::process::Command;

use coracle_tests::{Node, Run};

/// Exit code: the manifest or the command line is wrong.
pub(crate) const CONFIG: i32 = 2;
/// Exit code: something of the machine is missing.
pub(crate) const HOST: i32 = 3;

/// The command is refused: with this exit code, these words, no output, and
/// nothing left.
pub(crate) fn refused(
    node: &Node,
    command: &mut Command,
    code: i32,
    words: &[&str],
) -> anyhow::Result<()> {
    let finished = Run::start(command)?.finish()?.expect_code(code)?;
    finished.expect_said(words)?;
    assert_eq!(finished.stdout, "");
    node.expect_clean()
}
