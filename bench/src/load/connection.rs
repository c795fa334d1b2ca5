//! One connection of the loader: connects without blocking, sends the request, reads the answer.
//!
//! The caller waits for what [`Connection::wants`] says, then calls [`Connection::proceed`], which does one step: so
//! that among connections with bulk no one starves the others.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket};

use super::request::Request;
use super::response::{Answer, Expected};

/// What a step gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing that counts.
    Nothing,
    /// So many bytes of the body that is down- or uploaded.
    Body(usize),
    /// The request is answered, with the last bytes of a body that is downloaded. The connection rests, or ends.
    Answered(usize),
    /// The server has closed after an answer, as it was asked to.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Connecting, or the request is not all written.
    Sending,
    Receiving,
    Resting,
    /// The answer is complete and the server is to close.
    Closing,
}

/// One connection with a socket.
pub struct Connection {
    stream: TcpStream,
    state: State,
    request: Rc<Request>,
    /// Bytes of it that are written.
    written: usize,
    answer: Answer,
    /// The request says that the server shall close.
    close: bool,
    /// When the request was due.
    pub due: Instant,
}

impl Connection {
    /// Begins to connect for a request that was due.
    pub fn open(
        server: SocketAddrV4,
        request: Rc<Request>,
        expected: Expected,
        close: bool,
        due: Instant,
    ) -> io::Result<Connection> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd: OwnedFd = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        match connect(fd.as_raw_fd(), &SockaddrIn::from(server)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Connection {
            stream: TcpStream::from(fd),
            state: State::Sending,
            request,
            written: 0,
            answer: Answer::new(expected),
            close,
            due,
        })
    }

    /// The next request, which was due then, on a connection that rests. Gives the bytes of a body that left.
    pub fn ask(&mut self, due: Instant) -> io::Result<usize> {
        self.due = due;
        self.written = 0;
        self.answer.reset();
        self.send()
    }

    /// What to wait for.
    pub fn wants(&self) -> EpollFlags {
        match self.state {
            State::Sending => EpollFlags::EPOLLOUT,
            State::Receiving | State::Resting | State::Closing => EpollFlags::EPOLLIN,
        }
    }

    /// Takes the next request.
    pub fn is_resting(&self) -> bool {
        self.state == State::Resting
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// One step, as far as it goes without blocking.
    ///
    /// # Errors
    /// Those of the socket, a connection that ended early, and an answer that is not the one it should be.
    pub fn proceed(&mut self, buffer: &mut [u8]) -> io::Result<Step> {
        match self.state {
            State::Sending => {
                if let Some(error) = self.stream.take_error()? {
                    return Err(error);
                }
                self.send().map(Step::Body)
            }
            State::Receiving => self.receive(buffer),
            State::Resting => match self.read(buffer)? {
                None => Ok(Step::Nothing),
                Some(0) => Err(ErrorKind::UnexpectedEof.into()),
                Some(_) => Err(io::Error::other("an answer to nothing")),
            },
            State::Closing => match self.read(buffer)? {
                None => Ok(Step::Nothing),
                Some(0) => Ok(Step::Closed),
                Some(_) => Err(io::Error::other("the answer is too long")),
            },
        }
    }

    /// Gives the bytes of a body that left.
    fn send(&mut self) -> io::Result<usize> {
        let before = self.written;
        let written = match self.request.rest(before) {
            [head, []] => self.stream.write(head),
            [[], body] => self.stream.write(body),
            both => self.stream.write_vectored(&both.map(IoSlice::new)),
        };
        match written {
            Ok(written) => self.written += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        self.state = if self.written == self.request.len() {
            State::Receiving
        } else {
            State::Sending
        };
        Ok(self.request.body_bytes(before..self.written))
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Step> {
        let read = match self.read(buffer)? {
            None => return Ok(Step::Nothing),
            Some(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Some(read) => read,
        };
        let received = self.answer.take(&buffer[..read])?.len();
        // What is said of an upload is not what is measured.
        let body = if self.request.is_upload() {
            0
        } else {
            received
        };
        if !self.answer.is_complete() {
            return Ok(Step::Body(body));
        }
        self.state = if self.close {
            State::Closing
        } else {
            State::Resting
        };
        Ok(Step::Answered(body))
    }

    /// `None` if there is nothing yet.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.stream.read(buffer) {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}
