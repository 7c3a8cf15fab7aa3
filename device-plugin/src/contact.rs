//! What the kubelet has done at the socket of one registration.

/// So many of each since the kubelet was told of the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contact {
    /// Connections that it made.
    pub(crate) connections: usize,
    /// Calls that arrived.
    pub(crate) calls: usize,
    /// Streams that it follows now.
    pub(crate) streams: usize,
}

impl Contact {
    /// Whether it dials and no call of it arrives: the HTTP/2 library refuses
    /// the calls of kubelets before 1.26, which send the socket's path as
    /// `:authority`, and tells nobody.
    pub(crate) fn is_unheard(self) -> bool {
        self.connections > 0 && self.calls == 0
    }
}
