//! What is kept of names, ten thousand times: a set of them in which there is
//! nearly always one (a `BTreeSet` would have room for eleven), and a
//! namespace and a name as one key.

/// Namespace and name, with a slash between.
pub(super) type Key = Box<str>;

/// The key of an object.
pub(super) fn key(namespace: &str, name: &str) -> Key {
    format!("{namespace}/{name}").into()
}

/// A few names, in order, each once.
#[derive(Clone, Debug, Default)]
pub(super) struct Few(Vec<Box<str>>);

impl Few {
    /// Adds a name.
    pub(super) fn insert(&mut self, name: &str) {
        if let Err(place) = self.place(name) {
            self.0.reserve_exact(1);
            self.0.insert(place, name.into());
        }
    }

    /// Takes a name out.
    pub(super) fn remove(&mut self, name: &str) {
        if let Ok(place) = self.place(name) {
            self.0.remove(place);
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Box::as_ref)
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|known| known.as_ref().cmp(name))
    }
}

#[cfg(test)]
mod tests {
    use super::Few;

    #[test]
    fn names_are_there_once_and_in_order() {
        let mut few = Few::default();
        for name in ["b", "a", "b", "c"] {
            few.insert(name);
        }
        few.remove("b");
        few.remove("never there");
        assert_eq!(few.iter().collect::<Vec<_>>(), ["a", "c"]);
    }
}
