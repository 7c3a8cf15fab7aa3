//! What was measured, and the few numbers that are made of it.

use coracle_benches::median;
use serde::Serialize;

/// Everything that one run measured.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    /// The machine.
    pub host: Vec<(String, String)>,
    /// The load average of the last minute when it began.
    pub load_before: f64,
    /// And when it ended.
    pub load_after: f64,
    /// Comparisons with bare qemu.
    pub pairs: Vec<Pairs>,
    /// Single figures.
    pub figures: Vec<Figure>,
}

/// Both sides of one measure, run in turn.
#[derive(Debug, Serialize)]
pub(crate) struct Pairs {
    pub what: String,
    pub unit: &'static str,
    pub coracle: Vec<f64>,
    pub bare: Vec<f64>,
    /// What is aimed at, in words.
    pub goal: Option<String>,
}

/// One number, or several of the same thing.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub what: String,
    pub unit: &'static str,
    pub values: Vec<f64>,
    pub goal: Option<String>,
}

impl Results {
    pub(crate) fn new((host, load): (Vec<(String, String)>, f64)) -> Self {
        Self {
            host,
            load_before: load,
            load_after: load,
            pairs: vec![],
            figures: vec![],
        }
    }

    pub(crate) fn figure(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        values: Vec<f64>,
        goal: Option<&str>,
    ) {
        let goal = goal.map(str::to_owned);
        self.figures.push(Figure {
            what: what.into(),
            unit,
            values,
            goal,
        });
    }
}

impl Pairs {
    pub(crate) fn new(what: &str, unit: &'static str, goal: Option<&str>) -> Self {
        Self {
            what: what.into(),
            unit,
            coracle: vec![],
            bare: vec![],
            goal: goal.map(str::to_owned),
        }
    }

    /// The ratio of the medians.
    pub(crate) fn ratio(&self) -> f64 {
        median(&self.coracle) / median(&self.bare)
    }

    /// The ratio of the minima: what is left when the machine did nothing
    /// else.
    pub(crate) fn ratio_of_minima(&self) -> f64 {
        minimum(&self.coracle) / minimum(&self.bare)
    }

    /// The median of the ratios of each pair.
    pub(crate) fn paired(&self) -> f64 {
        let ratios: Vec<f64> = self
            .coracle
            .iter()
            .zip(&self.bare)
            .map(|(one, other)| one / other)
            .collect();
        median(&ratios)
    }
}

/// The value below which this part of the values lies.
pub(crate) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a few thousand values"
    )]
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

/// The smallest value.
pub(crate) fn minimum(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_value_that_so_many_are_not_above() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert!((quantile(&hundred, 0.99) - 99.0).abs() < 1e-9);
        assert!(quantile(&[], 0.99).is_nan());
    }

    #[test]
    fn three_ratios_are_told_apart() {
        let pairs = Pairs {
            coracle: vec![2.0, 3.0, 10.0],
            bare: vec![1.0, 3.0, 4.0],
            ..Pairs::new("x", "s", None)
        };
        assert!((pairs.ratio() - 1.0).abs() < 1e-9);
        assert!((pairs.ratio_of_minima() - 2.0).abs() < 1e-9);
        assert!((pairs.paired() - 2.0).abs() < 1e-9);
    }
}
