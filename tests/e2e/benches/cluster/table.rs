//! What was measured, a line each.

use std::fmt;

use coracle_benches::median;

/// One line: what, its median, its goal, each value.
pub(crate) struct Row {
    what: &'static str,
    values: Vec<f64>,
    goal: &'static str,
}

impl Row {
    pub(crate) fn new(what: &'static str, values: Vec<f64>) -> Self {
        Self {
            what,
            values,
            goal: "",
        }
    }

    pub(crate) fn goal(self, goal: &'static str) -> Self {
        Self { goal, ..self }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, values, goal } = self;
        let each: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
        let (median, each) = (median(values), each.join(" "));
        write!(f, "{what:52} {median:6.2}  {goal:7} {each}")
    }
}
