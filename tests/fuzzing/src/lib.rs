//! What the fuzz targets of the other crates share.
//!
//! A target is a test that calls [`run`]. In an ordinary test run it tries some thousands of cases,
//! chosen at random; what fails is printed with the seed that repeats it (`BOLERO_RANDOM_SEED`).
//! `make fuzz` builds the same tests with libFuzzer, which is led by coverage, and runs each for
//! minutes. A case is something that is right with a few edits, so that both get past the first
//! check of a parser.

use std::panic::RefUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use bolero;
use bolero::TypeGenerator;

/// How long a target runs in an ordinary test run, and how many cases it tries at most.
const SHORT: Duration = Duration::from_secs(3);
const SHORT_CASES: usize = 20_000;
/// Edits beyond this are left out, so that cases stay near what is right.
const EDITS_MAX: usize = 16;
/// No case grows beyond this by its edits.
const CASE_BYTES_MAX: usize = 64 << 10;
/// Numbers at which lengths and counters tend to break.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

/// One way to spoil bytes. Places are taken modulo the length.
#[derive(Clone, Debug, TypeGenerator)]
pub enum Edit {
    /// Another byte.
    Set(u16, u8),
    /// One bit.
    Flip(u16, u8),
    /// More bytes.
    Insert(u16, [u8; 4], u8),
    /// Fewer bytes.
    Delete(u16, u16),
    /// A piece once more, elsewhere.
    Repeat(u16, u16, u16),
    /// A number at which parsers tend to break, in so many bytes, either end first.
    Number(u16, u8, u8, bool),
    /// A word of the target's language.
    Word(u16, u8),
    /// Nothing after this.
    Cut(u16),
}

/// Something right, with edits, and where it is split on its way.
#[derive(Clone, Debug, TypeGenerator)]
pub struct Case {
    seed: u16,
    edits: Vec<Edit>,
    splits: [u16; 4],
}

impl Case {
    /// A number that the target may use to choose.
    #[must_use]
    pub const fn choice(&self) -> usize {
        self.seed as usize
    }

    /// One of the seeds with the edits; `words` are put in by some of them.
    #[must_use]
    pub fn bytes(&self, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
        let seed = seeds.get(usize::from(self.seed) % seeds.len().max(1));
        let mut bytes = seed.cloned().unwrap_or_default();
        for edit in self.edits.iter().take(EDITS_MAX) {
            edit.apply(&mut bytes, words);
            bytes.truncate(CASE_BYTES_MAX);
        }
        bytes
    }

    /// The bytes in the pieces in which they come; none is lost.
    pub fn pieces<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut cuts: Vec<usize> = self
            .splits
            .iter()
            .map(|cut| place(*cut, bytes.len()))
            .collect();
        cuts.sort_unstable();
        cuts.push(bytes.len());
        let mut from = 0;
        cuts.into_iter().map(move |to| {
            let piece = bytes.get(from..to).unwrap_or_default();
            from = to;
            piece
        })
    }
}

/// A place in something of this length, its end included.
fn place(at: u16, length: usize) -> usize {
    usize::from(at) % (length + 1)
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>, words: &[&str]) {
        let length = bytes.len();
        let set = |bytes: &mut Vec<u8>, at: usize, change: &dyn Fn(u8) -> u8| {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = change(*byte);
            }
        };
        match *self {
            Self::Set(at, byte) => set(bytes, place(at, length), &|_| byte),
            Self::Flip(at, bit) => set(bytes, place(at, length), &|byte| byte ^ (1 << (bit % 8))),
            Self::Insert(at, more, count) => {
                let more = more.into_iter().take(usize::from(count % 5));
                let at = place(at, length);
                bytes.splice(at..at, more);
            }
            Self::Delete(at, count) => {
                let from = place(at, length);
                let to = (from + usize::from(count) % 64).min(length);
                bytes.drain(from..to);
            }
            Self::Repeat(at, count, to) => {
                let from = place(at, length);
                let end = (from + usize::from(count)).min(length);
                let piece = bytes.get(from..end).unwrap_or_default().to_vec();
                let to = place(to, length);
                bytes.splice(to..to, piece);
            }
            Self::Number(at, which, width, swapped) => {
                let number = NUMBERS.get(usize::from(which) % NUMBERS.len());
                let mut number = number.copied().unwrap_or_default().to_le_bytes();
                let width = usize::from(width) % 8 + 1;
                let number = number.get_mut(..width).unwrap_or_default();
                if swapped {
                    number.reverse();
                }
                let from = place(at, length);
                let to = (from + width).min(length);
                bytes.splice(from..to, number.iter().copied());
            }
            Self::Word(at, which) => {
                let word = words.get(usize::from(which) % words.len().max(1));
                let at = place(at, length);
                bytes.splice(at..at, word.copied().unwrap_or_default().bytes());
            }
            Self::Cut(at) => bytes.truncate(place(at, length)),
        }
    }
}

/// Counts the cases of a target.
#[derive(Debug, Default)]
pub struct Cases(AtomicU64);

impl Cases {
    fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tries cases of one target until its time is over; `try_case` panics if one fails.
#[doc(hidden)]
pub fn limits() -> (Duration, usize) {
    (SHORT, SHORT_CASES)
}

/// Wraps a target's function so that its cases are counted.
#[doc(hidden)]
pub fn counted<'a>(
    cases: &'a Cases,
    try_case: impl Fn(&Case) + RefUnwindSafe + 'a,
) -> impl Fn(&Case) + RefUnwindSafe + 'a {
    move |case| {
        cases.count();
        try_case(case);
    }
}

/// Says how many cases were tried.
#[doc(hidden)]
#[allow(clippy::print_stdout, reason = "the test shows it when it is asked to")]
pub fn tell(cases: &Cases) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a target");
    println!("{name}: {} cases", cases.0.load(Ordering::Relaxed));
}

/// Runs a target: `run!(|case| …)`, in a test of its own.
#[macro_export]
macro_rules! run {
    ($try_case:expr) => {{
        let cases = $crate::Cases::default();
        let (time, most) = $crate::limits();
        $crate::bolero::check!()
            .with_type::<$crate::Case>()
            .with_test_time(time)
            .with_iterations(most)
            .for_each($crate::counted(&cases, $try_case));
        $crate::tell(&cases);
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole_in_order() {
        let case = Case {
            seed: 0,
            edits: vec![],
            splits: [7, 2, 2, 1000],
        };
        let bytes: Vec<u8> = (0..20).collect();
        assert_eq!(case.pieces(&bytes).collect::<Vec<_>>().concat(), bytes);
        assert_eq!(case.pieces(&[]).collect::<Vec<_>>().concat(), []);
    }

    #[test]
    fn edits_change_what_is_right_and_never_break_out_of_it() {
        let case = |edits| Case {
            seed: 1,
            edits,
            splits: [0; 4],
        };
        let seeds = [vec![], b"abc".to_vec()];
        let edits = vec![Edit::Set(1, b'x'), Edit::Word(3, 0), Edit::Cut(5)];
        assert_eq!(case(edits).bytes(&seeds, &["word"]), b"axcwo");
        for at in [0, 1, 2, 3, 4, u16::MAX] {
            let edits = vec![
                Edit::Number(at, 8, 7, true),
                Edit::Repeat(at, at, at),
                Edit::Delete(at, at),
                Edit::Flip(at, 255),
                Edit::Insert(at, [1; 4], 255),
            ];
            assert!(case(edits.clone()).bytes(&seeds, &[]).len() < 100);
            assert!(case(edits).bytes(&[], &[]).len() < 100);
        }
    }
}
