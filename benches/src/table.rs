//! The results for people, on standard output.

use std::io::{self, Write};

use coracle_benches::median;

use crate::stats::{Results, minimum};

pub(crate) fn print(results: &Results) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (name, value) in &results.host {
        writeln!(out, "{name:<10} {value}")?;
    }
    let (before, after) = (results.load_before, results.load_after);
    writeln!(out, "{:<10} {before:.2} before, {after:.2} after\n", "load")?;
    pairs(results, &mut out)?;
    figures(results, &mut out)
}

fn pairs(results: &Results, out: &mut impl Write) -> io::Result<()> {
    if results.pairs.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "{:<44} {:>4} {:>17} {:>17}  {:>6} {:>6} {:>6}  goal",
        "side by side, median (minimum)", "n", "coracle", "bare qemu", "median", "min", "pairs"
    )?;
    for measure in &results.pairs {
        let side =
            |values: &[f64]| format!("{} ({})", number(median(values)), number(minimum(values)));
        writeln!(
            out,
            "{:<44} {:>4} {:>17} {:>17}  {:>6.3} {:>6.3} {:>6.3}  {}",
            format!("{}, {}", measure.what, measure.unit),
            measure.coracle.len(),
            side(&measure.coracle),
            side(&measure.bare),
            measure.ratio(),
            measure.ratio_of_minima(),
            measure.paired(),
            measure.goal.as_deref().unwrap_or("-"),
        )?;
    }
    writeln!(out)
}

fn figures(results: &Results, out: &mut impl Write) -> io::Result<()> {
    for figure in &results.figures {
        let spread = match &figure.values[..] {
            [one] => number(*one),
            many => format!(
                "{} (min {}, n {})",
                number(median(many)),
                number(minimum(many)),
                many.len()
            ),
        };
        let goal = figure
            .goal
            .as_ref()
            .map_or(String::new(), |goal| format!("   goal: {goal}"));
        writeln!(out, "{:<52} {spread} {}{goal}", figure.what, figure.unit)?;
    }
    Ok(())
}

/// Three significant digits are more than the noise leaves.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
