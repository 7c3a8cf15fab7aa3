//! How a kubelet starts and ends, and what goes wrong with it in tests.

use std::path::PathBuf;
use std::time::Duration;

/// How a kubelet starts and ends.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What becomes of the sockets that are there at the start.
    pub takeover: Takeover,
    /// Whether `kubelet.sock` stays when the kubelet stops, as after a crash.
    /// A kubelet that ends in order removes it.
    pub leave_socket: bool,
    /// Where it tells what is in use, if it does.
    pub pod_resources: Option<PathBuf>,
    /// What goes wrong.
    pub faults: Faults,
}

/// What becomes of the sockets that are there when a kubelet starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Takeover {
    /// Every socket in the directory goes, the plugins' too: what the real
    /// kubelet does. Other files stay.
    #[default]
    Wipe,
    /// Only an old `kubelet.sock` goes, the plugins' sockets stay.
    Keep,
    /// A new `kubelet.sock` is renamed over the old one: there is no moment
    /// without one, and the plugins' sockets stay.
    Replace,
}

/// What goes wrong; nothing by default.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// So many registrations are refused first.
    pub refuse: u32,
    /// The options of the plugins of so many registrations cannot be had, and
    /// the plugins are not used.
    pub options_fail: u32,
    /// So long each registration takes before anything is done about it.
    pub answer_after: Duration,
    /// The streams of so many registrations are dropped after their first
    /// list, and as ever not asked for again.
    pub drop_streams: u32,
    /// The end of a plugin's old stream disconnects whatever is registered
    /// under the resource by then, as in kubelets up to 1.36
    /// (kubernetes/kubernetes#127803).
    pub stale_stream_disconnects: bool,
    /// Plugins are called with the path of their socket as HTTP/2
    /// `:authority`, and only after `Register` was answered, as by kubelets
    /// before 1.26. No list is taken in.
    pub path_as_authority: bool,
}
