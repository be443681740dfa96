//! Vector registers behind one trait, and the run-time choice of instruction set.
//!
//! Kernels are written once, generic over [`Vector`], and marked `#[inline(always)]`; [`dispatch`] instantiates them inside a
//! function compiled for AVX-512, for AVX2 with FMA, or for the target's baseline. Registers are named explicitly because
//! auto-vectorised tiles of plain arrays are not dependable: some tile shapes reach peak, others stay scalar, sixty times
//! slower. Multiply-adds without hardware support would call into the maths library, so the portable vectors multiply,
//! then add.

use candle_core::WithDType;
use std::ops::{AddAssign, Neg};

/// One register of `LANES` elements.
///
/// # Safety
/// All methods: the processor supports the instruction set of the implementing type, and pointers are valid for `LANES`
/// elements (they need no alignment).
pub(crate) trait Vector: Copy {
    type Item: Element;
    const LANES: usize;
    /// Architectural registers: what a tile may hold.
    const REGISTERS: usize;
    unsafe fn load(p: *const Self::Item) -> Self;
    unsafe fn store(self, p: *mut Self::Item);
    unsafe fn splat(x: Self::Item) -> Self;
    /// self · b + c
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// c − self · b
    unsafe fn neg_mul_add(self, b: Self, c: Self) -> Self;
    unsafe fn add(self, b: Self) -> Self;
    /// self − b
    unsafe fn sub(self, b: Self) -> Self;
    unsafe fn sum(self) -> Self::Item;

    /// Stores the first `n` elements; `p` need be valid for these only.
    #[inline(always)]
    unsafe fn store_first(self, n: usize, p: *mut Self::Item) {
        let mut whole = [Self::Item::default(); WIDEST];
        debug_assert!(n <= Self::LANES && Self::LANES <= WIDEST);
        // SAFETY: the array holds a register of any kind, and the caller vouches for n elements.
        unsafe {
            self.store(whole.as_mut_ptr());
            std::ptr::copy_nonoverlapping(whole.as_ptr(), p, n);
        }
    }
}

/// Elements of the longest register.
const WIDEST: usize = 16;

/// f32 and f64.
pub(crate) trait Element: WithDType + Default + AddAssign + Neg<Output = Self> {
    #[cfg(target_arch = "x86_64")]
    type Avx512: Vector<Item = Self>;
    #[cfg(target_arch = "x86_64")]
    type Avx2: Vector<Item = Self>;
    type Portable: Vector<Item = Self>;
}

/// A vector of the target's baseline: 128 bits.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<T, const N: usize>([T; N]);

impl<T: Element, const N: usize> Vector for Lanes<T, N> {
    type Item = T;
    const LANES: usize = N;
    const REGISTERS: usize = 16;

    #[inline(always)]
    unsafe fn load(p: *const T) -> Self {
        // SAFETY: valid for LANES = N elements by the trait's contract; an array has its element's alignment.
        Self(unsafe { p.cast::<[T; N]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut T) {
        // SAFETY: as in `load`.
        unsafe { p.cast::<[T; N]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn splat(x: T) -> Self {
        Self([x; N])
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, mut c: Self) -> Self {
        for i in 0..N {
            c.0[i] += self.0[i] * b.0[i];
        }
        c
    }

    #[inline(always)]
    unsafe fn neg_mul_add(self, b: Self, mut c: Self) -> Self {
        for i in 0..N {
            c.0[i] += -self.0[i] * b.0[i];
        }
        c
    }

    #[inline(always)]
    unsafe fn add(self, mut b: Self) -> Self {
        for i in 0..N {
            b.0[i] += self.0[i];
        }
        b
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        let mut difference = b;
        for i in 0..N {
            difference.0[i] = self.0[i] - b.0[i];
        }
        difference
    }

    #[inline(always)]
    unsafe fn sum(self) -> T {
        let mut sum = self.0[0];
        for &x in &self.0[1..] {
            sum += x;
        }
        sum
    }
}

impl Element for f32 {
    #[cfg(target_arch = "x86_64")]
    type Avx512 = std::arch::x86_64::__m512;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = std::arch::x86_64::__m256;
    type Portable = Lanes<f32, 4>;
}

impl Element for f64 {
    #[cfg(target_arch = "x86_64")]
    type Avx512 = std::arch::x86_64::__m512d;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = std::arch::x86_64::__m256d;
    type Portable = Lanes<f64, 2>;
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    macro_rules! vector {
        ($register:ty, $item:ty, $lanes:literal, $registers:literal, $load:ident, $store:ident, $splat:ident, $mul_add:ident,
         $neg_mul_add:ident, $add:ident, $sub:ident, $sum:expr) => {
            impl Vector for $register {
                type Item = $item;
                const LANES: usize = $lanes;
                const REGISTERS: usize = $registers;

                #[inline(always)]
                unsafe fn load(p: *const $item) -> Self {
                    // SAFETY: the trait's contract: the instruction exists and p is valid for LANES elements.
                    unsafe { $load(p) }
                }

                #[inline(always)]
                unsafe fn store(self, p: *mut $item) {
                    // SAFETY: as in `load`.
                    unsafe { $store(p, self) }
                }

                #[inline(always)]
                unsafe fn splat(x: $item) -> Self {
                    // SAFETY: the instruction exists, by the trait's contract.
                    unsafe { $splat(x) }
                }

                #[inline(always)]
                unsafe fn mul_add(self, b: Self, c: Self) -> Self {
                    // SAFETY: as in `splat`.
                    unsafe { $mul_add(self, b, c) }
                }

                #[inline(always)]
                unsafe fn neg_mul_add(self, b: Self, c: Self) -> Self {
                    // SAFETY: as in `splat`.
                    unsafe { $neg_mul_add(self, b, c) }
                }

                #[inline(always)]
                unsafe fn add(self, b: Self) -> Self {
                    // SAFETY: as in `splat`.
                    unsafe { $add(self, b) }
                }

                #[inline(always)]
                unsafe fn sub(self, b: Self) -> Self {
                    // SAFETY: as in `splat`.
                    unsafe { $sub(self, b) }
                }

                #[inline(always)]
                unsafe fn sum(self) -> $item {
                    // SAFETY: as in `splat`.
                    unsafe { $sum(self) }
                }
            }
        };
    }

    #[inline(always)]
    unsafe fn sum_m256(x: __m256) -> f32 {
        // SAFETY: called from the AVX2 vector only, whose contract promises the instructions.
        unsafe {
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps::<1>(x, x)))
        }
    }

    #[inline(always)]
    unsafe fn sum_m256d(x: __m256d) -> f64 {
        // SAFETY: as in `sum_m256`.
        unsafe {
            let x = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd::<1>(x));
            _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)))
        }
    }

    vector!(
        __m512,
        f32,
        16,
        32,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        _mm512_fnmadd_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_reduce_add_ps
    );
    vector!(
        __m512d,
        f64,
        8,
        32,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_set1_pd,
        _mm512_fmadd_pd,
        _mm512_fnmadd_pd,
        _mm512_add_pd,
        _mm512_sub_pd,
        _mm512_reduce_add_pd
    );
    vector!(
        __m256,
        f32,
        8,
        16,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        _mm256_fnmadd_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        sum_m256
    );
    vector!(
        __m256d,
        f64,
        4,
        16,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_set1_pd,
        _mm256_fmadd_pd,
        _mm256_fnmadd_pd,
        _mm256_add_pd,
        _mm256_sub_pd,
        sum_m256d
    );
}

/// An instruction set this processor has been seen to support.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Level {
    /// The widest one available.
    pub(crate) fn detect() -> Self {
        Self::available()[0]
    }

    /// Every one available, widest first.
    pub(crate) fn available() -> &'static [Self] {
        const ALL: &[Level] = &[
            #[cfg(target_arch = "x86_64")]
            Level(Set::Avx512),
            #[cfg(target_arch = "x86_64")]
            Level(Set::Avx2),
            Level(Set::Portable),
        ];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
            if avx2 && std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512vl") {
                return ALL;
            }
            if avx2 {
                return &ALL[1..];
            }
        }
        &ALL[ALL.len() - 1..]
    }

    /// The name of the instruction set.
    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "AVX2 + FMA",
            Set::Portable => "portable",
        }
    }

    /// Lanes of a register and number of registers.
    pub(crate) fn registers<T: Element>(self) -> (usize, usize) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => (T::Avx512::LANES, T::Avx512::REGISTERS),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => (T::Avx2::LANES, T::Avx2::REGISTERS),
            Set::Portable => (T::Portable::LANES, T::Portable::REGISTERS),
        }
    }

    /// Channels rounded up to whole registers.
    pub(crate) fn pad<T: Element>(self, channels: usize) -> usize {
        channels.next_multiple_of(self.registers::<T>().0)
    }
}

/// Work that is compiled once for every instruction set.
pub(crate) trait Task<T: Element> {
    type Output;

    /// Implementations are `#[inline(always)]`: that is what compiles them for the caller's instruction set.
    ///
    /// # Safety
    /// The processor supports the instruction set of `X`.
    unsafe fn run<X: Vector<Item = T>>(self) -> Self::Output;
}

/// Runs `task` with the instructions of `level`.
pub(crate) fn dispatch<T: Element, K: Task<T>>(level: Level, task: K) -> K::Output {
    match level.0 {
        // SAFETY: a `Level` other than portable is made only after the processor reported these features.
        #[cfg(target_arch = "x86_64")]
        Set::Avx512 => unsafe { run_avx512(task) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => unsafe { run_avx2(task) },
        // SAFETY: plain arrays need no feature.
        Set::Portable => unsafe { task.run::<T::Portable>() },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
fn run_avx512<T: Element, K: Task<T>>(task: K) -> K::Output {
    // SAFETY: this function is compiled for, and called with, exactly these features.
    unsafe { task.run::<T::Avx512>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<T: Element, K: Task<T>>(task: K) -> K::Output {
    // SAFETY: as in `run_avx512`.
    unsafe { task.run::<T::Avx2>() }
}
