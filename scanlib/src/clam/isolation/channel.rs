//! Messages between the processes: one packet each, over a Unix socket pair, with descriptors attached.
//!
//! A packet is a `postcard` header, followed by a body of raw bytes. What arrives may come from a process that hostile input has
//! taken over: every length is bounded, and nothing is trusted beyond its type.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest packet, in bytes. The kernel's default send buffer holds three of them.
pub(super) const MAX_PACKET_BYTES: usize = 64 << 10;
/// Longest body that goes in a packet; a longer one is passed as a descriptor.
pub(super) const MAX_BODY_BYTES: usize = 48 << 10;
/// Most descriptors in one packet; the kernel's limit is 253.
pub(super) const MAX_DESCRIPTORS: usize = 128;

/// One end of a connection.
#[derive(Debug)]
pub(in crate::clam) struct Channel(OwnedFd);

/// A packet that arrived.
#[derive(Debug)]
pub(super) struct Packet<'b> {
    bytes: &'b [u8],
    pub(super) descriptors: Vec<OwnedFd>,
}

impl<'b> Packet<'b> {
    /// The header, and the body behind it.
    pub(super) fn parse<T: serde::Deserialize<'b>>(&self) -> io::Result<(T, &'b [u8])> {
        postcard::take_from_bytes(self.bytes).map_err(io::Error::other)
    }
}

impl Channel {
    /// Two connected ends. Neither survives `exec`.
    pub(super) fn pair() -> io::Result<(Channel, Channel)> {
        let (one, other) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Channel(one), Channel(other)))
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// [`Channel::receive`] fails with [`io::ErrorKind::WouldBlock`] after waiting for so long; `None` waits without a limit.
    pub(super) fn receive_at_most_for(&self, time: Option<Duration>) -> io::Result<()> {
        Ok(set_socket_timeout(&self.0, Timeout::Recv, time)?)
    }

    /// [`Channel::send`] fails with [`io::ErrorKind::WouldBlock`] after waiting for so long for the other end to read.
    pub(super) fn send_at_most_for(&self, time: Duration) -> io::Result<()> {
        Ok(set_socket_timeout(&self.0, Timeout::Send, Some(time))?)
    }

    /// Sends one packet.
    ///
    /// # Errors
    /// The other end is gone, or the packet is too long.
    pub(super) fn send<T: Serialize>(
        &self,
        header: &T,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let header = postcard::to_stdvec(header).map_err(io::Error::other)?;
        if header.len() + body.len() > MAX_PACKET_BYTES {
            return Err(io::Error::other("a packet is too long"));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors in a packet"));
        }
        let parts = [IoSlice::new(&header), IoSlice::new(body)];
        retry(|| rustix::net::sendmsg(&self.0, &parts, &mut control, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// Waits for the next packet; `None` if the other end is gone. With `descriptors`, those attached are accepted; else the kernel
    /// closes them.
    ///
    /// # Errors
    /// The packet does not fit, or it took longer than [`Channel::receive_at_most_for`] allows.
    pub(super) fn receive<'b>(
        &self,
        buffer: &'b mut Vec<u8>,
        descriptors: bool,
    ) -> io::Result<Option<Packet<'b>>> {
        buffer.resize(MAX_PACKET_BYTES, 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let space = if descriptors { &mut space[..] } else { &mut [] };
        let mut control = RecvAncillaryBuffer::new(space);
        let received = retry(|| {
            let mut parts = [IoSliceMut::new(buffer)];
            rustix::net::recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
        });
        let received = match received {
            // A peer that ended before it read everything.
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            other => other?,
        };
        let descriptors = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
            _ => Vec::new(),
        });
        let descriptors = descriptors.collect();
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::Error::other("a packet is longer than it may be"));
        }
        Ok((received.bytes > 0).then_some(Packet {
            bytes: buffer.get(..received.bytes).unwrap_or_default(),
            descriptors,
        }))
    }

    /// As [`Channel::receive`], for a packet that is only a header.
    pub(super) fn receive_header<T: DeserializeOwned>(
        &self,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Option<T>> {
        match self.receive(buffer, false)? {
            None => Ok(None),
            Some(packet) => Ok(Some(packet.parse()?.0)),
        }
    }

    /// Looks for a packet again and again for so long at the most, and lets other threads run meanwhile. Who sleeps instead is woken by the
    /// kernel, which takes longer than the scan of a short message.
    pub(in crate::clam) fn expect(&self, time: Duration) {
        if time.is_zero() {
            return;
        }
        let started = Instant::now();
        while !self.is_readable() && started.elapsed() < time {
            std::thread::yield_now();
        }
    }

    /// Whether a packet has arrived, or the other end is gone. Does not wait.
    pub(in crate::clam) fn is_readable(&self) -> bool {
        let mut byte = [0_u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let nothing = rustix::net::recv(&self.0, &mut byte, flags).err();
        !matches!(
            nothing,
            Some(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR)
        )
    }
}

impl From<OwnedFd> for Channel {
    fn from(descriptor: OwnedFd) -> Channel {
        Channel(descriptor)
    }
}

/// A signal handler of the program may interrupt a system call.
fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_packet_arrives_with_its_body_and_its_descriptors() {
        let (one, other) = Channel::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"inside", 0).unwrap();
        one.send(&(7_u32, "text"), b"body", &[file.as_fd()])
            .unwrap();
        let mut buffer = Vec::new();
        let mut packet = other.receive(&mut buffer, true).unwrap().unwrap();
        let (header, body): ((u32, &str), _) = packet.parse().unwrap();
        assert_eq!((header, body), ((7, "text"), &b"body"[..]));
        let mut text = String::new();
        let mut inside = std::fs::File::from(packet.descriptors.remove(0));
        inside.read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
        drop(one);
        assert!(other.receive(&mut buffer, true).unwrap().is_none());
    }

    #[test]
    fn what_is_no_header_is_an_error_and_what_is_too_long_is_not_sent() {
        let (one, other) = Channel::pair().unwrap();
        assert!(one.send(&(), &[0; MAX_PACKET_BYTES + 1], &[]).is_err());
        one.send(&(), &[0xff; 40], &[]).unwrap();
        let mut buffer = Vec::new();
        assert!(other.receive_header::<String>(&mut buffer).is_err());
    }

    #[test]
    fn a_descriptor_that_is_not_expected_is_closed() {
        let (one, other) = Channel::pair().unwrap();
        let (inside, outside) = Channel::pair().unwrap();
        one.send(&7_u32, &[], &[inside.descriptor()]).unwrap();
        drop(inside);
        let mut buffer = Vec::new();
        let header: Option<u32> = other.receive_header(&mut buffer).unwrap();
        assert_eq!(header, Some(7));
        assert!(outside.receive(&mut buffer, false).unwrap().is_none());
    }

    #[test]
    fn waiting_has_an_end() {
        let (one, other) = Channel::pair().unwrap();
        let soon = Some(Duration::from_millis(1));
        other.receive_at_most_for(soon).unwrap();
        let mut buffer = Vec::new();
        let error = other.receive(&mut buffer, false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(!other.is_readable());
        one.send(&(), b"x", &[]).unwrap();
        assert!(other.is_readable());
    }
}
