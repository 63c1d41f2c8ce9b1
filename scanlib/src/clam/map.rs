//! Memory as libclamav wants it.

use std::marker::PhantomData;
use std::ptr::NonNull;

use clamav_sys as sys;

/// A view of borrowed bytes; nothing is copied. Closed on drop.
pub(super) struct MemoryMap<'d> {
    map: NonNull<sys::cl_fmap_t>,
    /// libclamav reads the bytes until the map is closed.
    _data: PhantomData<&'d [u8]>,
}

impl<'d> MemoryMap<'d> {
    /// `None` if libclamav cannot allocate the few hundred bytes of the map itself.
    pub(super) fn new(data: &'d [u8]) -> Option<MemoryMap<'d>> {
        // SAFETY: `data` is readable for its length and, by the lifetime, until the map is closed;
        // libclamav never writes to it.
        let map = unsafe { sys::cl_fmap_open_memory(data.as_ptr().cast(), data.len()) };
        Some(MemoryMap {
            map: NonNull::new(map)?,
            _data: PhantomData,
        })
    }

    /// Valid as long as `self`.
    pub(super) fn as_ptr(&self) -> *mut sys::cl_fmap_t {
        self.map.as_ptr()
    }
}

impl Drop for MemoryMap<'_> {
    fn drop(&mut self) {
        // SAFETY: opened by `new`, closed only here, and no scan is running: it borrowed `self`.
        unsafe { sys::cl_fmap_close(self.map.as_ptr()) };
    }
}
