//! Aligned working memory that a thread keeps between calls.
//!
//! Fresh large allocations cost a page fault every 4 KiB, which in a virtual machine can exceed the arithmetic done on them.

use super::simd::Element;
use std::cell::RefCell;
use std::mem::size_of;

/// A cache line, so that vector loads never straddle two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

const LINE: usize = 64;

thread_local! {
    // A stack: a thread that waits for others may run one of their tasks inside its own.
    static POOL: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `len` aligned elements of unspecified (but initialised) content.
pub(crate) fn with_scratch<T: Element, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    let mut lines = POOL.with(|pool| pool.borrow_mut().pop()).unwrap_or_default();
    resize::<T>(&mut lines, len);
    let result = f(elements_mut(&mut lines, len));
    POOL.with(|pool| pool.borrow_mut().push(lines));
    result
}

/// A vector whose first element starts a cache line.
pub(crate) struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    element: std::marker::PhantomData<T>,
}

impl<T: Element> Aligned<T> {
    pub(crate) fn zeros(len: usize) -> Self {
        let mut lines = Vec::with_capacity((len * size_of::<T>()).div_ceil(LINE));
        advise(&lines);
        resize::<T>(&mut lines, len);
        Self { lines, len, element: std::marker::PhantomData }
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: as in `elements_mut`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        elements_mut(&mut self.lines, self.len)
    }
}

/// Asks for large pages for a large buffer that has not been written to: a kernel that visits many places in it would spend its
/// time on looking up addresses, most of all in a virtual machine.
fn advise(lines: &Vec<Line>) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const PAGE: usize = 4096;
        const LARGE: usize = 4 << 20;
        let bytes = lines.capacity() * LINE;
        let start = lines.as_ptr().addr().next_multiple_of(PAGE);
        let end = (lines.as_ptr().addr() + bytes) / PAGE * PAGE;
        if bytes >= LARGE {
            let first = lines.as_ptr().cast_mut().cast::<libc::c_void>().with_addr(start);
            // SAFETY: whole pages of memory that the vector owns, and a hint: their content stays. A refusal changes nothing.
            unsafe { libc::madvise(first, end - start, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = lines;
}

/// Elements rounded up to whole cache lines: what [`take`] consumes.
pub(crate) fn whole_lines<T: Element>(len: usize) -> usize {
    len.next_multiple_of(LINE / size_of::<T>())
}

/// Splits the first `len` elements, rounded up to whole cache lines, off an aligned buffer.
pub(crate) fn take<'a, T: Element>(buffer: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let (head, tail) = std::mem::take(buffer).split_at_mut(whole_lines::<T>(len));
    *buffer = tail;
    &mut head[..len]
}

fn resize<T>(lines: &mut Vec<Line>, len: usize) {
    let need = (len * size_of::<T>()).div_ceil(LINE);
    if lines.len() < need {
        lines.resize(need, Line([0; LINE]));
    }
}

fn elements_mut<T: Element>(lines: &mut [Line], len: usize) -> &mut [T] {
    assert!(len * size_of::<T>() <= lines.len() * LINE);
    // SAFETY: the lines are initialised bytes, any bytes are a valid f32 or f64 (the only elements there are), 64 is a multiple
    // of their alignment, and the length has just been checked.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), len) }
}
