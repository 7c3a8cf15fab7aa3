//! What the plugin answers to the runtime: which containers may lock memory.
//! Pure, and from the call alone, so that every answer is there at once.
//!
//! VFIO locks the memory of a guest, and the kernel counts that against
//! `RLIMIT_MEMLOCK`: 8 MiB, unless somebody reconfigures the container
//! runtime. A container gets no limit at all when
//!
//! - it was given something by this plugin, as its environment says, and
//! - it has a device node of VFIO, from whichever plugin, and
//! - nobody has set a limit for it: two plugins that set the same would fail
//!   the container, and an administrator's word counts.
//!
//! All others are left as they are. No limit, and not the container's memory,
//! because the same memory is counted again for every user of VFIO in it, and
//! because a number could be less than what the runtime's own limit is. What a
//! container locks is within its cgroup's memory all the same.

use coracle_proto::nri::{
    ConfigureResponse, Container, ContainerAdjustment, CreateContainerRequest,
    CreateContainerResponse, Event, PLUGIN, PosixRlimit, SynchronizeRequest, SynchronizeResponse,
};
use coracle_proto::ttrpc::{Request, Response, Status};
use prost::{DecodeError, Message};

use crate::resource::ENV_PREFIX;

const MEMLOCK: &str = "RLIMIT_MEMLOCK";
/// `RLIM_INFINITY`.
const UNLIMITED: u64 = u64::MAX;
/// The one event that is asked for.
const EVENTS: i32 = 1 << (Event::CreateContainer as i32 - 1);
/// gRPC's code for a call that is not known.
const UNIMPLEMENTED: i32 = 12;

/// What a call was about, for the log and the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The runtime knows what to ask for.
    Configured,
    /// A container with a device of VFIO is made.
    Vfio {
        /// The pod's namespace and name, and the container's.
        container: String,
        /// Whether it may lock memory now; else somebody has set its limit.
        raised: bool,
    },
    /// A call that cannot be read.
    Garbled {
        /// The method.
        method: String,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// Nothing to tell of.
    Nothing,
}

/// The answer to a call of the runtime. To the plugin's service it is never an
/// error: that would fail the container it is about.
pub(crate) fn answer(request: &Request) -> (Response, Heard) {
    if request.service != PLUGIN {
        let message = format!("there is no service {:?} here", request.service);
        let code = UNIMPLEMENTED;
        let status = Some(Status { code, message });
        let payload = vec![];
        return (Response { status, payload }, Heard::Nothing);
    }
    let payload = request.payload.as_slice();
    let answered = match request.method.as_str() {
        "Configure" => Ok((configured(), Heard::Configured)),
        "Synchronize" => synchronized(payload),
        "CreateContainer" => created(payload),
        // What was not asked for.
        _ => Ok((vec![], Heard::Nothing)),
    };
    let (payload, heard) = answered.unwrap_or_else(|error| {
        let method = request.method.clone();
        (vec![], Heard::Garbled { method, error })
    });
    let status = None;
    (Response { status, payload }, heard)
}

fn configured() -> Vec<u8> {
    ConfigureResponse { events: EVENTS }.encode_to_vec()
}

/// Containers that are there already stay as they are.
fn synchronized(payload: &[u8]) -> Result<(Vec<u8>, Heard), DecodeError> {
    let SynchronizeRequest { more } = SynchronizeRequest::decode(payload)?;
    let response = SynchronizeResponse { more };
    Ok((response.encode_to_vec(), Heard::Nothing))
}

fn created(payload: &[u8]) -> Result<(Vec<u8>, Heard), DecodeError> {
    let request = CreateContainerRequest::decode(payload)?;
    let pod = request.pod.unwrap_or_default();
    let container = request.container.unwrap_or_default();
    let adjust = adjustment(&container);
    let heard = if is_for_vfio(&container) {
        Heard::Vfio {
            container: format!("{}/{}/{}", pod.namespace, pod.name, container.name),
            raised: adjust.is_some(),
        }
    } else {
        Heard::Nothing
    };
    let response = CreateContainerResponse { adjust };
    Ok((response.encode_to_vec(), heard))
}

/// What is changed about a container, if anything is.
fn adjustment(container: &Container) -> Option<ContainerAdjustment> {
    let limited = container
        .rlimits
        .iter()
        .any(|limit| limit.r#type == MEMLOCK);
    (is_for_vfio(container) && !limited).then(|| ContainerAdjustment {
        rlimits: vec![PosixRlimit {
            r#type: MEMLOCK.to_owned(),
            hard: UNLIMITED,
            soft: UNLIMITED,
        }],
    })
}

/// Whether this plugin gave the container something, and it has a device of
/// VFIO.
fn is_for_vfio(container: &Container) -> bool {
    let devices = container.linux.iter().flat_map(|linux| &linux.devices);
    let mut vfio = devices.filter(|device| device.r#type == "c" && is_vfio(&device.path));
    let mut ours = container.env.iter();
    ours.any(|variable| variable.starts_with(ENV_PREFIX)) && vfio.next().is_some()
}

/// Whether a path is that of a group or of a device of VFIO. `/dev/vfio/vfio`
/// alone is neither.
fn is_vfio(path: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    path.strip_prefix("/dev/vfio/").is_some_and(|rest| {
        let device = rest.strip_prefix("devices/vfio");
        number(device.unwrap_or(rest))
    })
}

#[cfg(test)]
mod tests;
