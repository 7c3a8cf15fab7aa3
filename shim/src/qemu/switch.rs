//! How a switch becomes arguments.

use serde::Serialize;

/// One of qemu's switches, with its value if it takes one.
pub(crate) trait Switch {
    /// The switch, with its dash.
    fn name(&self) -> &'static str;
    /// Its value.
    fn value(&self) -> Option<String>;
}

/// The arguments so far.
#[derive(Debug, Default)]
pub(crate) struct Arguments(Vec<String>);

impl Arguments {
    /// Adds a switch.
    pub(crate) fn add(&mut self, switch: &impl Switch) {
        self.0.push(switch.name().to_owned());
        self.0.extend(switch.value());
    }

    /// Adds arguments that are switches already.
    pub(crate) fn extend(&mut self, arguments: Vec<String>) {
        self.0.extend(arguments);
    }

    pub(crate) fn into_vec(self) -> Vec<String> {
        self.0
    }
}

/// `key=value,…`, qemu's older syntax, in which a comma in a value is doubled.
#[derive(Debug, Default)]
pub(crate) struct Keys(String);

impl Keys {
    /// Starts with a word without a key, where a switch takes one.
    pub(crate) fn word(word: &str) -> Self {
        Self(doubled(word))
    }

    /// Adds `key=value`.
    pub(crate) fn with(mut self, key: &str, value: &(impl ToString + ?Sized)) -> Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(key);
        self.0.push('=');
        self.0.push_str(&doubled(&value.to_string()));
        self
    }

    /// Adds `key=on` or `key=off`.
    pub(crate) fn flag(self, key: &str, on: bool) -> Self {
        self.with(key, if on { "on" } else { "off" })
    }

    pub(crate) fn into_value(self) -> String {
        self.0
    }
}

fn doubled(text: &str) -> String {
    text.replace(',', ",,")
}

/// The newer syntax: `-object`, `-blockdev` and, since 7.2, `-netdev`.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers and bools serialize")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_value_is_doubled() {
        let keys = Keys::word("a,b").with("key", "c,d=e").flag("on", true);
        assert_eq!(keys.into_value(), "a,,b,key=c,,d=e,on=on");
        assert_eq!(Keys::default().with("key", &1).into_value(), "key=1");
    }
}
