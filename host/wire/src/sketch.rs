//! A sketch of a set of names: how many there are, about, in constant memory; sketches merge.
//!
//! `HyperLogLog` (Flajolet, Fusy, Gandouet, Meunier 2007) with a 64-bit hash (Heule, Nunkesser,
//! Hall 2013) and the estimator of Ertl 2017 ("New cardinality estimation algorithms for
//! `HyperLogLog` sketches", algorithm 6), which needs no tables and has no bias for small sets. The
//! standard error is 1.04 / sqrt([`REGISTERS`]), about 0.8 %. The hash is part of the protocol:
//! all nodes must give one name the same hash.

/// How many registers a sketch has: one byte each.
pub const REGISTERS: usize = 1 << REGISTER_BITS;

const REGISTER_BITS: u32 = 14;
/// The largest value of a register.
const RANK_MAX: u8 = (64 - REGISTER_BITS + 1) as u8;

/// A set of names, about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sketch {
    registers: Vec<u8>,
}

impl Default for Sketch {
    fn default() -> Self {
        Self {
            registers: vec![0; REGISTERS],
        }
    }
}

impl Sketch {
    /// Reads what [`Sketch::into_bytes`] gave. None unless it has the right length and values.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let valid = bytes.len() == REGISTERS && bytes.iter().all(|rank| *rank <= RANK_MAX);
        valid.then_some(Self { registers: bytes })
    }

    /// The registers, in order.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.registers
    }

    /// Adds a name. Again changes nothing.
    pub fn add(&mut self, name: &str) {
        let hash = stable_hash(name.as_bytes());
        let place = (hash >> (64 - REGISTER_BITS)) as usize;
        let rest = hash << REGISTER_BITS;
        let rank = (rest.leading_zeros() as u8 + 1).min(RANK_MAX);
        if let Some(register) = self.registers.get_mut(place) {
            *register = rank.max(*register);
        }
    }

    /// Becomes the union of both.
    pub fn merge(&mut self, other: &Self) {
        for (own, other) in self.registers.iter_mut().zip(&other.registers) {
            *own = (*other).max(*own);
        }
    }

    /// About how many names were added.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate, not negative"
    )]
    pub fn estimate(&self) -> u64 {
        let mut counts = [0_u32; RANK_MAX as usize + 1];
        for rank in &self.registers {
            if let Some(count) = counts.get_mut(usize::from(*rank)) {
                *count += 1;
            }
        }
        let all = REGISTERS as f64;
        let [zero, middle @ .., top] = counts;
        let mut sum = all * tau(1.0 - f64::from(top) / all);
        for count in middle.iter().rev() {
            sum = 0.5 * (sum + f64::from(*count));
        }
        sum += all * sigma(f64::from(zero) / all);
        // 1 / (2 ln 2), the constant of infinitely many registers.
        let alpha = 0.5 / std::f64::consts::LN_2;
        (alpha * all * all / sum).round() as u64
    }
}

/// What registers that are still zero add.
fn sigma(share: f64) -> f64 {
    if share >= 1.0 {
        return f64::INFINITY;
    }
    let (mut power, mut factor, mut sum) = (share, 1.0, share);
    loop {
        power *= power;
        let before = sum;
        sum += power * factor;
        factor += factor;
        if sum <= before {
            return sum;
        }
    }
}

/// What registers that are full add.
fn tau(share: f64) -> f64 {
    if share <= 0.0 || share >= 1.0 {
        return 0.0;
    }
    let (mut root, mut factor, mut sum) = (share, 1.0, 1.0 - share);
    loop {
        root = root.sqrt();
        let before = sum;
        factor *= 0.5;
        sum -= (1.0 - root).powi(2) * factor;
        if sum >= before {
            return sum / 3.0;
        }
    }
}

/// The same number for the same bytes on every node of every version: FNV-1a, then the finalizer
/// of `MurmurHash3`, which makes every bit depend on all others. Not for tables that strangers fill.
#[must_use]
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let mut hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: std::ops::Range<u32>) -> Sketch {
        let mut sketch = Sketch::default();
        for name in names {
            sketch.add(&format!("user-{name}"));
        }
        sketch
    }

    #[test]
    fn hashes_stay_as_they_are() {
        assert_eq!(stable_hash(b""), 0xefd0_1f60_ba99_2926);
        assert_eq!(stable_hash(b"uid"), stable_hash(b"uid"));
    }

    #[test]
    fn estimates_are_within_five_standard_errors() {
        for count in [0, 1, 10, 1000, 20_000, 50_000, 200_000] {
            let estimate = of(0..count).estimate();
            let off = estimate.abs_diff(u64::from(count));
            assert!(off * 100 <= u64::from(count) * 4, "{count}: {estimate}");
        }
    }

    #[test]
    fn merging_is_the_union_and_repeats_nothing() {
        let mut left = of(0..6000);
        left.merge(&of(4000..10_000));
        assert_eq!(left, of(0..10_000));
    }

    #[test]
    fn bytes_of_another_length_or_value_are_no_sketch() {
        let bytes = of(0..9).into_bytes();
        assert_eq!(Sketch::from_bytes(bytes.clone()), Some(of(0..9)));
        assert_eq!(Sketch::from_bytes(vec![0; 12]), None);
        let mut wrong = bytes;
        wrong.fill(RANK_MAX + 1);
        assert_eq!(Sketch::from_bytes(wrong), None);
    }
}
