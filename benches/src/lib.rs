//! What all measurements share, those in a cluster too: the guest's words, and
//! the value in the middle.

/// What the guest's first process says.
pub const HELLO: &str = "coracle-bench: userspace";
/// The guest's kernel command line: quiet, and without what only costs time
/// under emulation.
pub const CMDLINE: &str =
    "console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable mitigations=off nokaslr";

/// What to add to it, so that the guest's first process stays instead of powering
/// off.
pub const STAY: &str = "coracle.bench=stay";

/// The middle value, or the mean of the two in the middle.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }
}
