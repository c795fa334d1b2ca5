//! Random numbers that are a function of (seed, packet, question), without a state.
//!
//! The n-th packet of a direction therefore has the same fate whatever the packets before it looked like and
//! whenever they came: two servers measured with one seed lose the same packets. The generator is SplitMix64
//! (Steele, Lea, Flood 2014), whose n-th output can be computed directly; it is written here because results must
//! not change with the version of a library.

/// What a random number decides. Each question has its own stream, so that switching one impairment on leaves the
/// answers to the others as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Lost on its own?
    Loss,
    /// Does the burst begin or end here?
    BurstTurn,
    /// Lost inside a burst?
    BurstLoss,
    /// How much jitter?
    Jitter,
    /// Held back?
    Reorder,
    /// Sent twice?
    Duplicate,
    /// Damaged?
    Corrupt,
    /// Which bit?
    CorruptBit,
}

/// Questions per packet: the stride between packets in the stream.
const QUESTIONS: u64 = 8;
/// The increment of SplitMix64: 2^64 over the golden ratio, made odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The dice of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Dice {
    origin: u64,
}

impl Dice {
    /// Dice for `seed` and a direction.
    pub fn new(seed: u64, direction: u64) -> Dice {
        // Mixed twice, so that neighbouring seeds do not give shifted copies of one stream.
        Dice {
            origin: mix(mix(seed).wrapping_add(direction.wrapping_mul(GOLDEN))),
        }
    }

    /// 64 random bits for a question about the packet with this number.
    pub fn bits(&self, packet: u64, question: Question) -> u64 {
        let step = packet
            .wrapping_mul(QUESTIONS)
            .wrapping_add(question as u64 + 1);
        mix(self.origin.wrapping_add(step.wrapping_mul(GOLDEN)))
    }

    /// A number in [0, 1), a multiple of 2^-53.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
    pub fn unit(&self, packet: u64, question: Question) -> f64 {
        const SCALE: f64 = 1.0 / (1u64 << 53) as f64;
        (self.bits(packet, question) >> 11) as f64 * SCALE
    }

    /// Whether something of this probability happens.
    pub fn happens(&self, probability: f64, packet: u64, question: Question) -> bool {
        self.unit(packet, question) < probability
    }
}

/// The output function of SplitMix64.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_function_is_that_of_splitmix64() {
        // First outputs of the reference implementation seeded with 1234567.
        let outputs: Vec<u64> = (1..=3u64)
            .map(|step| mix(1_234_567u64.wrapping_add(step.wrapping_mul(GOLDEN))))
            .collect();
        assert_eq!(
            outputs,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn seeds_directions_packets_and_questions_are_independent() {
        let mut seen = std::collections::HashSet::new();
        for seed in 0..4 {
            for direction in 0..2 {
                let dice = Dice::new(seed, direction);
                for packet in 0..64 {
                    assert!(seen.insert(dice.bits(packet, Question::Loss)));
                    assert!(seen.insert(dice.bits(packet, Question::CorruptBit)));
                }
            }
        }
    }

    #[test]
    fn certain_and_impossible_are_exact() {
        let dice = Dice::new(7, 0);
        for packet in 0..10_000 {
            assert!(dice.happens(1.0, packet, Question::Loss));
            assert!(!dice.happens(0.0, packet, Question::Loss));
        }
    }
}
