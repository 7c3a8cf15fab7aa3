//! Where events go.
//!
//! kube's recorder keeps every event of the last minutes, whole, so that one
//! that repeats becomes a series, and walks through all of them for each. With
//! ten thousand VMs that start, that is most of the controller's memory. Here it
//! forgets them after so many: an event that repeats later is one of its own.

use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, Recorder, Reporter};

use super::context::MANAGER;

/// How many events are remembered at most.
const REMEMBERED: u32 = 100;

/// Publishes events.
pub struct Events {
    client: Client,
    recorder: Mutex<Remembering>,
}

struct Remembering {
    recorder: Recorder,
    events: u32,
}

impl Events {
    /// Events that are sent with this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let recorder = Mutex::new(Remembering {
            recorder: recorder(&client),
            events: 0,
        });
        Self { client, recorder }
    }

    /// Publishes an event about an object.
    ///
    /// # Errors
    /// What the API server answers.
    pub async fn publish(&self, event: &Event, about: &ObjectReference) -> Result<(), kube::Error> {
        let recorder = self.recorder();
        recorder.publish(event, about).await
    }

    fn recorder(&self) -> Recorder {
        let mut remembering = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        if remembering.events >= REMEMBERED {
            *remembering = Remembering {
                recorder: recorder(&self.client),
                events: 0,
            };
        }
        remembering.events += 1;
        remembering.recorder.clone()
    }
}

fn recorder(client: &Client) -> Recorder {
    Recorder::new(client.clone(), Reporter::from(MANAGER))
}
