//! Where SQLite reads and writes files: its own way, with three functions of the database's file put
//! before those of SQLite.
//!
//! **Invariants:** everything else is SQLite's, locks and shared memory too: its functions are called
//! with its own data. Nothing is mapped into memory or read in pieces, so every page passes here.
//!
//! A file of SQLite is a piece of memory that begins with a pointer to a table of functions. Ours are
//! longer by a [`Shim`], which has the table that the file shows, and the one that it would show.

#![expect(unsafe_code, reason = "SQLite takes a file system only as C functions")]

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use rusqlite::Connection;
use rusqlite::ffi::{
    self, SQLITE_CORRUPT, SQLITE_ERROR, SQLITE_FCNTL_RESERVE_BYTES, SQLITE_IOCAP_SUBPAGE_READ,
    SQLITE_OK, SQLITE_OPEN_MAIN_DB, sqlite3_file, sqlite3_io_methods, sqlite3_vfs,
};

use super::{Found, PAGE, Page, RESERVED, RESERVED_AT, met, seal, unseal, unseal_first};

const NAME: &CStr = c"kapelle";
/// The version of a table of functions that maps nothing into memory.
const UNMAPPED: c_int = 2;

/// What a database's file has more than SQLite's. The table comes first: the file points there.
#[repr(C)]
struct Shim {
    ours: sqlite3_io_methods,
    real: *const sqlite3_io_methods,
    path: *const c_char,
    has_sums: Cell<bool>,
}

/// The name under which SQLite knows this way to its files, from the first call on.
pub(in super::super) fn name() -> &'static CStr {
    static REGISTERED: OnceLock<c_int> = OnceLock::new();
    let code = *REGISTERED.get_or_init(register);
    assert_eq!(code, SQLITE_OK, "SQLite takes a file system made of its own");
    NAME
}

fn register() -> c_int {
    // SAFETY: The default file system is there as long as the process; it is copied, not changed. Ours
    // is never freed.
    unsafe {
        let real = ffi::sqlite3_vfs_find(ptr::null());
        if real.is_null() {
            return SQLITE_ERROR;
        }
        let mut ours = *real;
        ours.zName = NAME.as_ptr();
        ours.szOsFile = c_int::try_from(shim_at(real) + size_of::<Shim>()).unwrap_or(c_int::MAX);
        ours.xOpen = Some(open);
        ffi::sqlite3_vfs_register(Box::leak(Box::new(ours)), 0)
    }
}

/// Has the pages of a database that is still empty leave room for a sum.
pub(in super::super) fn reserve(conn: &Connection) {
    reserved(conn, c_int::from(RESERVED));
}

/// Whether the pages of a database, which has been read, have room for a sum.
pub(in super::super) fn has_room(conn: &Connection) -> bool {
    reserved(conn, -1) == c_int::from(RESERVED)
}

/// How much SQLite leaves alone at the end of each page, and is to leave if that is not negative.
fn reserved(conn: &Connection, wanted: c_int) -> c_int {
    let (mut bytes, main) = (wanted, c"main".as_ptr());
    // SAFETY: The connection is open, and SQLite reads and writes the one number.
    unsafe {
        let bytes = ptr::from_mut(&mut bytes).cast();
        ffi::sqlite3_file_control(conn.handle(), main, SQLITE_FCNTL_RESERVE_BYTES, bytes);
    }
    bytes
}

/// Where the shim is in a file of ours: behind SQLite's part.
///
/// # Safety
/// `real` is SQLite's file system.
unsafe fn shim_at(real: *const sqlite3_vfs) -> usize {
    // SAFETY: As said.
    let len = unsafe { (*real).szOsFile };
    usize::try_from(len).unwrap_or(0).next_multiple_of(align_of::<Shim>())
}

/// Opens a file as SQLite does. That of a database shows our functions from then on.
unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    path: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    opened: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives as much memory for a file as `register` asked for, aligned for pointers, and
    // keeps the path as long as the file. A file that is open shows a table of functions.
    unsafe {
        let real = ffi::sqlite3_vfs_find(ptr::null());
        let Some(real_open) = (*real).xOpen else { return SQLITE_ERROR };
        let code = real_open(real, path, file, flags, opened);
        if code == SQLITE_OK && flags & SQLITE_OPEN_MAIN_DB != 0 {
            let shim = file.byte_add(shim_at(real)).cast::<Shim>();
            let real = (*file).pMethods;
            let mut ours = *real;
            ours.iVersion = UNMAPPED.min(ours.iVersion);
            ours.xRead = Some(read);
            ours.xWrite = Some(write);
            ours.xDeviceCharacteristics = Some(traits);
            shim.write(Shim { ours, real, path, has_sums: Cell::new(false) });
            (*file).pMethods = &raw const (*shim).ours;
        }
        code
    }
}

/// # Safety
/// `file` is one of a database that [`open`] has opened; nobody else uses it meanwhile.
unsafe fn shim<'a>(file: *mut sqlite3_file) -> &'a Shim {
    // SAFETY: It shows the table that a shim begins with.
    unsafe { &*(*file).pMethods.cast::<Shim>() }
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    into: *mut c_void,
    len: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: A connection is used by one thread at a time, and so are its files. There are `len`
    // bytes at `into`, which the real function sees the same way, or ours has a page of its own.
    unsafe {
        let shim = shim(file);
        let Some(real) = (*shim.real).xRead else { return SQLITE_ERROR };
        if let Some(number) = page_number(len, offset) {
            let code = real(file, into, len, offset);
            return if code == SQLITE_OK { shim.take(&mut *into.cast(), number) } else { code };
        }
        let end = usize::try_from(offset.saturating_add(len.into())).unwrap_or(PAGE + 1);
        let mut first: Page = [0; PAGE];
        let whole = ptr::from_mut(&mut first).cast();
        if end > PAGE || real(file, whole, PAGE_LEN, 0) != SQLITE_OK {
            return real(file, into, len, offset);
        }
        // A bit of the head, which may be half written while the log has it whole: so never refused.
        shim.look(&mut first);
        let begin = end - usize::try_from(len).unwrap_or(0);
        ptr::copy_nonoverlapping(first[begin..].as_ptr(), into.cast(), end - begin);
        SQLITE_OK
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    from: *const c_void,
    len: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: As in `read`; what is at `from` is not changed.
    unsafe {
        let shim = shim(file);
        let Some(real) = (*shim.real).xWrite else { return SQLITE_ERROR };
        let Some(number) = page_number(len, offset) else { return real(file, from, len, offset) };
        let page = &*from.cast::<Page>();
        if number == 1 {
            shim.has_sums.set(page[RESERVED_AT] == RESERVED);
        }
        if !shim.has_sums.get() {
            return real(file, from, len, offset);
        }
        real(file, ptr::from_ref(&seal(page, number)).cast(), len, offset)
    }
}

/// What SQLite may expect of the disk: not that it reads pieces of pages past the sums.
unsafe extern "C" fn traits(file: *mut sqlite3_file) -> c_int {
    // SAFETY: As in `read`.
    unsafe {
        let real = (*shim(file).real).xDeviceCharacteristics;
        real.map_or(0, |real| real(file)) & !SQLITE_IOCAP_SUBPAGE_READ
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it is 4096")]
const PAGE_LEN: c_int = PAGE as c_int;

/// Which page that is; `None` for anything but one whole page.
fn page_number(len: c_int, offset: i64) -> Option<u32> {
    let (page, within) = (offset / PAGE as i64, offset % PAGE as i64);
    let number = u32::try_from(page).ok()?.checked_add(1)?;
    (len == PAGE_LEN && within == 0).then_some(number)
}

impl Shim {
    /// Makes what was read of a page what was written, or refuses it.
    fn take(&self, page: &mut Page, number: u32) -> c_int {
        let found = if number == 1 {
            self.look(page)
        } else if self.has_sums.get() {
            unseal(page, number)
        } else {
            Found::Whole
        };
        if found == Found::Whole {
            return SQLITE_OK;
        }
        met(number, &self.path(), found);
        if found == Found::Mended { SQLITE_OK } else { SQLITE_CORRUPT }
    }

    /// The same with the first page, which also says whether there are sums.
    fn look(&self, first: &mut Page) -> Found {
        let (has_sums, found) = unseal_first(first);
        self.has_sums.set(has_sums);
        found
    }

    fn path(&self) -> std::borrow::Cow<'_, str> {
        // SAFETY: SQLite keeps it as long as the file; a database of ours has a name.
        unsafe { CStr::from_ptr(self.path) }.to_string_lossy()
    }
}
