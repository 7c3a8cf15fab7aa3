//! `OpenMetrics` text, version 1.0.0: families of samples, and the mark at the
//! end.

use std::fmt::{Display, Write};

/// What every name begins with.
const PREFIX: &str = "coracle_device_plugin_";

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Counter,
    Gauge,
}

/// Labels and a value.
#[derive(Clone, Debug)]
pub(super) struct Sample<'a, const N: usize> {
    labels: [(&'static str, &'a str); N],
    value: f64,
}

impl<'a, const N: usize> Sample<'a, N> {
    pub(super) fn new(labels: [(&'static str, &'a str); N], value: f64) -> Self {
        Self { labels, value }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "nothing here is counted 2^53 times"
    )]
    pub(super) fn count(labels: [(&'static str, &'a str); N], count: u64) -> Self {
        Self::new(labels, count as f64)
    }
}

/// Labels, the buckets, how many, and their sum.
type Distribution<'a, const N: usize, const B: usize> =
    ([(&'static str, &'a str); N], [u64; B], u64, f64);

/// The text so far.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn family<'a, const N: usize>(
        &mut self,
        name: &str,
        kind: Type,
        help: &str,
        samples: impl IntoIterator<Item = Sample<'a, N>>,
    ) {
        let (word, suffix) = match kind {
            Type::Counter => ("counter", "_total"),
            Type::Gauge => ("gauge", ""),
        };
        self.head(name, word, help);
        for sample in samples {
            self.line(name, suffix, &sample.labels, sample.value);
        }
    }

    pub(super) fn histogram<'a, const N: usize, const B: usize>(
        &mut self,
        name: &str,
        help: &str,
        bounds: &[f64; B],
        all: impl IntoIterator<Item = Distribution<'a, N, B>>,
    ) {
        self.head(name, "histogram", help);
        for (labels, within, count, sum) in all {
            for (bound, within) in bounds.iter().zip(within) {
                // A bound is a float, and a whole one says so.
                let bound = format!("{bound:?}");
                let labels: Vec<_> = labels.into_iter().chain([("le", &*bound)]).collect();
                self.line(name, "_bucket", &labels, within);
            }
            let last: Vec<_> = labels.into_iter().chain([("le", "+Inf")]).collect();
            self.line(name, "_bucket", &last, count);
            self.line(name, "_count", &labels, count);
            self.line(name, "_sum", &labels, sum);
        }
    }

    /// The whole text.
    pub(super) fn end(mut self) -> String {
        self.0.push_str("# EOF\n");
        self.0
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {PREFIX}{name} {help}.");
        let _ = writeln!(self.0, "# TYPE {PREFIX}{name} {kind}");
    }

    fn line(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "{PREFIX}{name}{suffix}");
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{}\"", escaped(text));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{after} {value}");
    }
}

/// A label's value as the format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_absent_families_have_a_head_only() {
        let mut text = Text::default();
        let sample = Sample::new([("a", "x\"y\\z\n")], 0.5);
        text.family("f", Type::Counter, "Some", [sample]);
        text.family("g", Type::Gauge, "None", [] as [Sample<'_, 0>; 0]);
        assert_eq!(
            text.end(),
            "# HELP coracle_device_plugin_f Some.\n\
             # TYPE coracle_device_plugin_f counter\n\
             coracle_device_plugin_f_total{a=\"x\\\"y\\\\z\\n\"} 0.5\n\
             # HELP coracle_device_plugin_g None.\n\
             # TYPE coracle_device_plugin_g gauge\n\
             # EOF\n"
        );
    }
}
