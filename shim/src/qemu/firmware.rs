//! Direct kernel boot. qemu takes these three values as they are: nothing in
//! them is a separator.

use super::switch::Switch;

/// `-kernel`
#[derive(Clone, Debug)]
pub(crate) struct Kernel(pub(crate) String);

/// `-initrd`
#[derive(Clone, Debug)]
pub(crate) struct Initrd(pub(crate) String);

/// `-append`
#[derive(Clone, Debug)]
pub(crate) struct Append(pub(crate) String);

impl Switch for Kernel {
    fn name(&self) -> &'static str {
        "-kernel"
    }

    fn value(&self) -> Option<String> {
        Some(self.0.clone())
    }
}

impl Switch for Initrd {
    fn name(&self) -> &'static str {
        "-initrd"
    }

    fn value(&self) -> Option<String> {
        Some(self.0.clone())
    }
}

impl Switch for Append {
    fn name(&self) -> &'static str {
        "-append"
    }

    fn value(&self) -> Option<String> {
        Some(self.0.clone())
    }
}
