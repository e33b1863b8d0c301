//! What arithmetic needs of an instruction set: sixteen lanes, whatever the width of the registers below them.
//!
//! A kernel is written once, over [`Simd`]; `arch/*` says what each operation is on one instruction set. Every operation is
//! exact or rounded once, as IEEE 754 asks, and sums of lanes have one order, so **all paths give the same bits**: the
//! scalar one is the definition, and tests compare with `==`.
//!
//! [`Simd::enter`] is the door: it compiles a [`Body`] with the instructions of the token that it is called on. All that a
//! body calls must be `#[inline(always)]`, otherwise it is compiled without them (right, but slow): no `array::map`, no
//! `array::from_fn`, no closure of more than an expression.

/// A piece of arithmetic, generic over the instructions.
pub(crate) trait Body {
    /// What it gives.
    type Output;
    /// Computes. Implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Sixteen rows of blocks, one after the other, as in a file: what is [interleaved](crate::interleave).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    bytes: &'a [u8],
    stride: usize,
}

impl<'a> Rows<'a> {
    /// `bytes`: sixteen rows of the same length.
    pub(crate) fn new(bytes: &'a [u8]) -> Rows<'a> {
        assert!(bytes.len().is_multiple_of(16), "sixteen rows");
        Rows { bytes, stride: bytes.len() / 16 }
    }

    /// Bytes of a row.
    #[inline(always)]
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// All rows.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// One row.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [u8] {
        &self.bytes[row * self.stride..][..self.stride]
    }
}

/// One instruction set, proven by its token. Sixteen `f32` or `i32` lanes are one value.
#[allow(clippy::missing_docs_in_private_items)]
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Sixteen `f32`.
    type F: Copy;

    /// Sixteen `i32`; the same as sixty-four bytes, four to a lane.
    type I: Copy;

    /// Whether lanes are registers, so that what saves memory traffic is worth compiling.
    const VECTORS: bool;
    /// Whether [`Simd::dot8`] takes the bytes of `WIDE` weights as 0 … 255, 128 being zero, rather than signed.
    const UNSIGNED: bool;

    fn splat_i(self, value: i32) -> Self::I;
    fn load_i(self, from: &[u8; 64]) -> Self::I;
    fn store_i(self, value: Self::I, to: &mut [u8; 64]);
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    fn xor(self, a: Self::I, b: Self::I) -> Self::I;
    /// Each lane's 32 bits down by `bits`, zeros from above. Bits cross from byte to byte: mask them.
    fn shift_down(self, a: Self::I, bits: u32) -> Self::I;
    /// Each lane's 32 bits up by `bits`. Bits cross from byte to byte: mask them.
    fn shift_up(self, a: Self::I, bits: u32) -> Self::I;
    /// Byte i of each lane becomes 16 if bit `4 * quarter + i` of the lane is set, 0 if not.
    fn sixteens(self, a: Self::I, quarter: usize) -> Self::I;
    /// Each byte, 0 … 15, becomes the byte of the table at that place.
    fn look_up(self, a: Self::I, table: &[u8; 16]) -> Self::I;
    /// Lanes to floats.
    fn to_f(self, a: Self::I) -> Self::F;
    /// The lower 16 bits of each lane as half precision, to single.
    fn half_to_f(self, a: Self::I) -> Self::F;
    /// 16 bytes of each of sixteen rows, transposed: value j holds in lane r the bytes `4 j … 4 j + 3` of row r.
    fn transpose(self, rows: &Rows<'_>, at: usize) -> [Self::I; 4];
    /// Sixteen half-precision numbers.
    fn halves(self, from: &[u8; 32]) -> Self::F;
    /// Asks memory for the line of 64 bytes in which element `at` lies, or would lie: it need not be one of ours.
    fn prefetch<T>(self, from: &[T], at: usize);
    /// `sum` plus, in each lane, the products of its four bytes of `a` with the four of `x`, and of `b` with `y`.
    /// The bytes of `a` and `b` are 0 … 63, or, if `WIDE`, as [`Simd::UNSIGNED`] says; those of `x` and `y` −127 … 127.
    fn dot8<const WIDE: bool>(self, sum: Self::I, a: Self::I, b: Self::I, x: i32, y: i32) -> Self::I;

    /// Whether two tokens at once are faster than one after the other, with weights that are [woven](Simd::woven) beforehand.
    const PAIRS: bool = false;

    /// Two values in the order that [`Simd::dot8_two`] works in: four columns of weights and the next four, or the sums of two
    /// tokens.
    #[inline(always)]
    fn woven(self, two: [Self::I; 2]) -> [Self::I; 2] {
        two
    }

    /// Undoes [`Simd::woven`].
    #[inline(always)]
    fn unwoven(self, two: [Self::I; 2]) -> [Self::I; 2] {
        two
    }

    /// [`Simd::dot8`] for two tokens, each with its `x` and `y`; weights and sums are woven.
    #[inline(always)]
    fn dot8_two<const WIDE: bool>(
        self,
        sums: [Self::I; 2],
        [a, b]: [Self::I; 2],
        x: &[i32; 2],
        y: &[i32; 2],
    ) -> [Self::I; 2] {
        [self.dot8::<WIDE>(sums[0], a, b, x[0], y[0]), self.dot8::<WIDE>(sums[1], a, b, x[1], y[1])]
    }

    /// One of the registers that hold sixteen `f32`.
    type Register: Copy;

    /// Registers that sixteen lanes take.
    const REGISTERS: usize;
    /// Registers that there are.
    const REGISTER_FILE: usize;
    /// Whether a kernel has 32 registers of 16 lanes at hand, rather than 8.
    const MANY_REGISTERS: bool = Self::REGISTER_FILE / Self::REGISTERS >= 32;

    fn load_register(self, from: &[f32; 16], register: usize) -> Self::Register;
    fn store_register(self, value: Self::Register, to: &mut [f32; 16], register: usize);
    /// `a * b + c`, rounded once.
    fn mul_add_register(self, a: Self::Register, b: Self::Register, c: Self::Register) -> Self::Register;

    /// Compiles the body with this instruction set, and runs it.
    fn enter<B: Body>(self, body: B) -> B::Output;

    fn splat(self, value: f32) -> Self::F;
    fn load(self, from: &[f32; 16]) -> Self::F;
    fn store(self, value: Self::F, to: &mut [f32; 16]);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a < b ? a : b`; `b` if one is not a number.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a > b ? a : b`; `b` if one is not a number.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a < b ? yes : no`, lane by lane.
    fn if_less(self, a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F;
    /// Without the sign.
    fn abs(self, a: Self::F) -> Self::F;
    /// The bits as an integer, moved up by 23 (into the exponent), plus `add`, back as a float: the last step of `exp`.
    fn into_exponent(self, a: Self::F, add: i32) -> Self::F;
    /// Half precision to single.
    fn widen_f16(self, from: &[u16; 16]) -> Self::F;
    /// Single precision to half, to the nearest, ties to even.
    fn narrow_f16(self, value: Self::F, to: &mut [u16; 16]);
    /// Brain floating point to single.
    fn widen_bf16(self, from: &[u16; 16]) -> Self::F;
    /// Small integers to floats.
    fn widen_i8(self, from: &[i8; 16]) -> Self::F;
    /// To the nearest integer, ties to even; the lanes hold −128 to 127.
    fn narrow_i8(self, value: Self::F, to: &mut [i8; 16]);

    /// The sum of the lanes: lane i with i+8, then i+4, i+2, i+1. One order on each path.
    #[inline(always)]
    fn sum(self, value: Self::F) -> f32 {
        let mut lanes = [0.0; 16];
        self.store(value, &mut lanes);
        // Written out, so that the compiler sees vectors rather than loops.
        for i in 0..8 {
            lanes[i] += lanes[i + 8];
        }
        for i in 0..4 {
            lanes[i] += lanes[i + 4];
        }
        (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
    }

    /// The sums of four, each in the order of [`Simd::sum`].
    #[inline(always)]
    fn sum_four(self, values: [Self::F; 4]) -> [f32; 4] {
        let [a, b, c, d] = values;
        [self.sum(a), self.sum(b), self.sum(c), self.sum(d)]
    }

    /// The largest lane (of numbers: what is not a number may be passed over).
    #[inline(always)]
    fn largest(self, value: Self::F) -> f32 {
        let mut lanes = [0.0; 16];
        self.store(value, &mut lanes);
        for i in 0..8 {
            lanes[i] = larger(lanes[i], lanes[i + 8]);
        }
        for i in 0..4 {
            lanes[i] = larger(lanes[i], lanes[i + 4]);
        }
        larger(larger(lanes[0], lanes[2]), larger(lanes[1], lanes[3]))
    }
}

/// `b` if one is not a number.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Up to sixteen numbers, the missing ones filled.
#[inline(always)]
pub(crate) fn load_part<S: Simd>(simd: S, from: &[f32], fill: f32) -> S::F {
    let mut lanes = [fill; 16];
    lanes[..from.len()].copy_from_slice(from);
    simd.load(&lanes)
}

/// The first lanes, as many as there is room for.
#[inline(always)]
pub(crate) fn store_part<S: Simd>(simd: S, value: S::F, to: &mut [f32]) {
    let mut lanes = [0.0; 16];
    simd.store(value, &mut lanes);
    to.copy_from_slice(&lanes[..to.len()]);
}

/// eˣ with a relative error below 2e-7; 0 below −86.6, infinite above 88.72.
///
/// x = n ln 2 + r with |r| ≤ ln 2 / 2; eʳ by its Taylor polynomial of degree 7, whose remainder is below 5e-9.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::F) -> S::F {
    // 1.5 × 2²³: adding it leaves the nearest integer in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    let magic = simd.splat(MAGIC);
    let held = simd.max(simd.min(x, simd.splat(88.7)), simd.splat(-87.4));
    let shifted = simd.mul_add(held, simd.splat(std::f32::consts::LOG2_E), magic);
    let n = simd.sub(shifted, magic);
    // ln 2 in two parts, the first with few enough bits that n times it is exact.
    let r = simd.mul_add(n, simd.splat(-0.693_359_4), held);
    let r = simd.mul_add(n, simd.splat(2.121_944_4e-4), r);
    let mut p = simd.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = simd.mul_add(p, r, simd.splat(c));
    }
    // 2ⁿ⁻¹, and doubled at the end: 2¹²⁸ has no exponent of its own. Below −86.6, 2ⁿ⁻¹ would have none.
    let half = simd.into_exponent(shifted, 126 << 23);
    let scaled = simd.mul(simd.mul(p, half), simd.splat(2.0));
    let low = simd.if_less(x, simd.splat(-86.6), simd.splat(0.0), scaled);
    simd.if_less(simd.splat(88.722_83), x, simd.splat(f32::INFINITY), low)
}
