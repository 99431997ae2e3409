//! Every state that a machine was ever in, every letter ever sent, and what comes of the one meeting the other.
//!
//! Leaves out: which states of machines go together; that is the world's.

use super::{Machine, Out, Verdict};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

const WORDS: usize = 4;

/// Letters that one walk may have; more is a panic, never a wrong count.
pub const LETTERS_MAX: usize = WORDS * 64;

/// A set of letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bits([u64; WORDS]);

impl Bits {
    pub fn insert(&mut self, bit: usize) {
        self.0[bit / 64] |= 1 << (bit % 64);
    }

    pub fn contains(&self, bit: usize) -> bool {
        self.0[bit / 64] >> (bit % 64) & 1 == 1
    }

    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    pub fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    pub fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    pub fn without(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    pub fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(word, mut bits)| {
            std::iter::from_fn(move || {
                let bit = bits.trailing_zeros();
                bits &= bits.wrapping_sub(1);
                (bit < 64).then_some(word * 64 + bit as usize)
            })
        })
    }
}

/// What comes of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    pub to: u32,
    pub sent: Bits,
    pub learned: u32,
    pub sights: u64,
    pub alarm: bool,
    pub crash: bool,
}

/// What is known of one state of a machine.
#[derive(Default)]
struct Known {
    acts: Vec<Move>,
    /// Letters that were tried, and those of them of which something comes.
    tried: Bits,
    moves: Vec<(u8, Move)>,
}

/// Numbers for values, by equality.
struct Roll<T> {
    items: Vec<T>,
    by_hash: HashMap<u64, Vec<u32>>,
    state: RandomState,
}

impl<T: Eq + Hash> Roll<T> {
    fn new() -> Self {
        Self { items: Vec::new(), by_hash: HashMap::new(), state: RandomState::new() }
    }

    /// The number, and whether it is a new one.
    fn number(&mut self, item: T) -> (usize, bool) {
        let same = self.by_hash.entry(self.state.hash_one(&item)).or_default();
        if let Some(known) = same.iter().find(|known| self.items[**known as usize] == item) {
            return (*known as usize, false);
        }
        let number = self.items.len();
        same.push(u32::try_from(number).unwrap());
        self.items.push(item);
        (number, true)
    }
}

/// All that was computed so far.
pub struct Memory<M: Machine> {
    machines: Roll<M>,
    known: Vec<Option<Known>>,
    letters: Roll<M::Letter>,
    /// For each place in the cluster, the letters for it.
    addressed: Vec<Bits>,
    /// The letters from which *chosen* is judged.
    counted: Bits,
    verdicts: HashMap<Bits, Verdict>,
    places: Vec<M>,
}

impl<M: Machine> Memory<M> {
    /// `places` stand for the machines in it: whom a letter is for never changes.
    pub fn new(places: &[M]) -> Self {
        Self {
            machines: Roll::new(),
            known: Vec::new(),
            letters: Roll::new(),
            addressed: vec![Bits::default(); places.len()],
            counted: Bits::default(),
            verdicts: HashMap::new(),
            places: places.to_vec(),
        }
    }

    pub fn machine(&self, number: u32) -> &M {
        &self.machines.items[number as usize]
    }

    pub fn letter(&self, bit: usize) -> &M::Letter {
        &self.letters.items[bit]
    }

    /// How many states machines have, and how many letters there are.
    pub fn sizes(&self) -> (usize, usize) {
        (self.machines.items.len(), self.letters.items.len())
    }

    pub fn addressed(&self, place: usize) -> Bits {
        self.addressed[place]
    }

    pub fn counted(&self) -> Bits {
        self.counted
    }

    pub fn verdict(&self, votes: Bits) -> Option<Verdict> {
        self.verdicts.get(&votes).copied()
    }

    pub fn judge(&mut self, votes: Bits, judge: impl Fn(&[&M::Letter]) -> Verdict) {
        let letters: Vec<&M::Letter> = votes.iter().map(|bit| &self.letters.items[bit]).collect();
        let verdict = judge(&letters);
        self.verdicts.insert(votes, verdict);
    }

    pub fn number(&mut self, machine: M) -> u32 {
        let (number, is_new) = self.machines.number(machine);
        if is_new {
            self.known.push(None);
        }
        u32::try_from(number).unwrap()
    }

    /// Whether all that these letters can do to the machine has been computed.
    pub fn knows(&self, machine: u32, letters: Bits) -> bool {
        let known = self.known[machine as usize].as_ref();
        known.is_some_and(|known| letters.without(known.tried).is_empty())
    }

    /// All that can happen to the machine, given these letters; the order never changes.
    pub fn moves(&self, machine: u32, letters: Bits) -> impl Iterator<Item = &Move> + '_ {
        let known = self.known[machine as usize].as_ref().unwrap();
        let of_letters = known.moves.iter().filter(move |(bit, _)| letters.contains(usize::from(*bit)));
        known.acts.iter().chain(of_letters.map(|(_, step)| step))
    }

    /// Runs the core for what has not been computed yet.
    pub fn learn(&mut self, machine: u32, letters: Bits, counts: impl Fn(&M::Letter) -> bool) {
        let before = self.machines.items[machine as usize].clone();
        if self.known[machine as usize].is_none() {
            let step = |memory: &mut Self, act: &M::Act| {
                let (mut after, mut out) = (before.clone(), Out::default());
                after.act(act, &mut out);
                Move { crash: M::is_crash(act), ..memory.step(after, out, &counts) }
            };
            let acts = before.acts().iter().map(|act| step(self, act)).collect();
            self.known[machine as usize] = Some(Known { acts, ..Known::default() });
        }
        let tried = self.known[machine as usize].as_ref().unwrap().tried;
        for bit in letters.without(tried).iter() {
            let (mut after, mut out) = (before.clone(), Out::default());
            after.receive(&self.letters.items[bit], &mut out);
            let step = self.step(after, out, &counts);
            let known = self.known[machine as usize].as_mut().unwrap();
            known.tried.insert(bit);
            let nothing = Move {
                to: machine,
                sent: Bits::default(),
                learned: 0,
                sights: step.sights,
                alarm: false,
                crash: false,
            };
            if step != nothing {
                let at = known.moves.partition_point(|(other, _)| usize::from(*other) < bit);
                known.moves.insert(at, (u8::try_from(bit).unwrap(), step));
            }
        }
    }

    fn step(&mut self, after: M, out: Out<M::Letter>, counts: &impl Fn(&M::Letter) -> bool) -> Move {
        let mut sent = Bits::default();
        for letter in out.sent {
            if let Some(bit) = self.post(letter, counts) {
                sent.insert(bit);
            }
        }
        let to = self.number(after);
        Move { to, sent, learned: out.learned, sights: out.sights, alarm: out.alarm, crash: false }
    }

    /// A letter that nobody hears, and from which nothing follows, is as good as none.
    fn post(&mut self, letter: M::Letter, counts: &impl Fn(&M::Letter) -> bool) -> Option<usize> {
        let counted = counts(&letter);
        let is_for = self.places.iter().map(|place| place.is_for(&letter)).collect::<Vec<_>>();
        if !counted && !is_for.contains(&true) {
            return None;
        }
        let (bit, is_new) = self.letters.number(letter);
        if is_new {
            assert!(bit < LETTERS_MAX, "more than {LETTERS_MAX} letters: a smaller scope, or more bits");
            for (addressed, _) in self.addressed.iter_mut().zip(is_for).filter(|(_, is_for)| *is_for) {
                addressed.insert(bit);
            }
            if counted {
                self.counted.insert(bit);
            }
        }
        Some(bit)
    }
}
