//! A process's output, to be waited for.

use std::{
    io::Read,
    sync::{Arc, Condvar, Mutex},
    thread,
};

use crate::bench::PATIENCE;

/// Output that a thread collects.
pub(crate) struct Collected(Arc<(Mutex<Collection>, Condvar)>);

#[derive(Default)]
struct Collection {
    bytes: Vec<u8>,
    ended: bool,
}

impl Collected {
    pub(crate) fn new(mut from: impl Read + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(Collection::default()), Condvar::new()));
        let collected = Self(shared.clone());
        thread::spawn(move || {
            let mut bytes = [0; 1024];
            loop {
                let length = from.read(&mut bytes).unwrap_or(0);
                let mut collection = shared.0.lock().expect("not poisoned");
                collection.bytes.extend(&bytes[..length]);
                collection.ended = length == 0;
                shared.1.notify_all();
                if length == 0 {
                    return;
                }
            }
        });
        collected
    }

    fn wait_until(&self, condition: impl Fn(&Collection) -> bool) -> bool {
        let (collection, changed) = &*self.0;
        let collection = collection.lock().expect("not poisoned");
        let (collection, _) = changed
            .wait_timeout_while(collection, PATIENCE, |now| !condition(now) && !now.ended)
            .expect("not poisoned");
        condition(&collection)
    }

    pub(crate) fn wait_for(&self, text: &str) -> bool {
        self.wait_until(|now| String::from_utf8_lossy(&now.bytes).contains(text))
    }

    pub(crate) fn wait_for_end(&self) {
        self.wait_until(|now| now.ended);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.0.lock().expect("not poisoned").ended
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.0.lock().expect("not poisoned").bytes).into_owned()
    }
}
