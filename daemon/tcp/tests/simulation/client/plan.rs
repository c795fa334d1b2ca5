//! What a client is there for, and how it behaves.

/// What a connection is for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Bytes from client to server, then from server to client.
    pub request: u64,
    pub response: u64,
    pub ending: Ending,
    pub mss: u16,
    pub window_scale: Option<u8>,
    pub sack: bool,
    pub timestamps: bool,
    pub receive_buffer: u32,
    /// Bytes read by the application twenty times a second; all at once if zero.
    pub read_slowly: u32,
    /// Now and then the window is taken back to nothing (RFC 9293 section 3.8.6, MUST-34: a sender copes).
    pub shrinks: bool,
    /// Segments beyond everything that came, of which it claims to have them: an attack (Savage et al. 1999).
    pub optimistic: u64,
    /// It asks for ECN (RFC 3168), as a receiver: what it sends itself is not ECN-capable.
    pub ecn: bool,
    /// Now and then what was SACKed is thrown away (RFC 2018 section 8: a receiver may).
    pub reneges: bool,
}

/// Who ends a connection, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The server sends FIN after its response.
    ServerFirst,
    /// The client sends FIN after its request.
    HalfClose,
    /// The client sends FIN when it has the whole response.
    ClientLast,
    /// The client sends RST when it has this much of the response.
    Abort(u64),
    /// The client falls silent when it has this much of the response.
    Vanish(u64),
}
