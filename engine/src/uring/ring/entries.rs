//! What the kernel is told of writes and syncs.

use std::os::fd::RawFd;

use io_uring::{opcode, squeue, types};
use mofka_log::FilePos;

use super::super::memory::IoBuf;
use super::REGION_INDEX;
use super::op::{Kind, NOBODY, tag};
use crate::io::WritePart;

/// A write of these parts, back to back. `is_registered`: memory of the region needs no pinning. Where the parts are goes into
/// `vectors`, when there are several.
pub(super) fn write(
    is_registered: bool,
    fd: RawFd,
    at: FilePos,
    parts: &[WritePart<IoBuf>],
    vectors: &mut Vec<Box<[libc::iovec]>>,
) -> squeue::Entry {
    if let [WritePart::Own(buf)] = parts {
        let bytes = buf.as_ref();
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        return if is_registered && buf.in_region() {
            opcode::WriteFixed::new(types::Fd(fd), bytes.as_ptr(), length, REGION_INDEX)
                .offset(at.get())
                .build()
        } else {
            opcode::Write::new(types::Fd(fd), bytes.as_ptr(), length)
                .offset(at.get())
                .build()
        };
    }
    let vector = parts.iter().map(|part| {
        let bytes = part.as_ref();
        libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        }
    });
    let vector: Box<[libc::iovec]> = vector.collect();
    let count = u32::try_from(vector.len()).unwrap_or(u32::MAX);
    let entry = opcode::Writev::new(types::Fd(fd), vector.as_ptr(), count)
        .offset(at.get())
        .build();
    vectors.push(vector);
    entry
}

/// Does nothing, and nobody hears of it.
pub(super) fn nothing(skip_success: bool) -> squeue::Entry {
    let flags = match skip_success {
        true => squeue::Flags::SKIP_SUCCESS,
        false => squeue::Flags::empty(),
    };
    opcode::Nop::new()
        .build()
        .user_data(tag(Kind::Poll, NOBODY, 0))
        .flags(flags)
}

/// An fdatasync.
pub(super) fn sync(fd: RawFd, kind: Kind, place: usize, file: usize) -> squeue::Entry {
    opcode::Fsync::new(types::Fd(fd))
        .flags(types::FsyncFlags::DATASYNC)
        .build()
        .user_data(tag(kind, place, file))
}
