//! The AccECN option (RFC 9768 3.2.3): up to three 24-bit counters of payload bytes by ECN codepoint.
//!
//! Two kinds differ in the order of the fields, so that the ones that matter come first and the rest can be left
//! out from the end. Reading takes the whole fields of any length (table 5 and the text after it); what the values
//! mean, and which of them are believed, is the protocol's decision.

/// Order 0: ECT(0), CE, ECT(1).
pub(crate) const KIND_ORDER_0: u8 = 172;
/// Order 1: ECT(1), CE, ECT(0).
pub(crate) const KIND_ORDER_1: u8 = 174;

const FIELD_LEN: usize = 3;
const FIELDS_MAX: usize = 3;
/// Kind, length and all fields, padded to whole words.
pub(crate) const PADDED_MAX: usize = 12;
/// A counter has so many bits on the wire.
const FIELD_MASK: u32 = 0x00ff_ffff;

/// Which counter comes first.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum AccEcnOrder {
    /// Kind 172: EE0B, ECEB, EE1B.
    #[default]
    Ect0First,
    /// Kind 174: EE1B, ECEB, EE0B.
    Ect1First,
}

/// The fields of one AccECN option.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AccEcnOption {
    order: AccEcnOrder,
    fields: u8,
    // In the order of the wire; fields that are not there stay zero, so that the derived equality compares what is.
    values: [u32; FIELDS_MAX],
}

impl AccEcnOption {
    /// The first `fields` (at most 3) of `counters`, which are those of ECT(0), CE and ECT(1), in this `order`. Their
    /// low 24 bits go on the wire.
    #[must_use]
    pub fn new(order: AccEcnOrder, counters: [u32; 3], fields: u8) -> AccEcnOption {
        let [ect0, ce, ect1] = counters;
        let values = match order {
            AccEcnOrder::Ect0First => [ect0, ce, ect1],
            AccEcnOrder::Ect1First => [ect1, ce, ect0],
        };
        let mut option = AccEcnOption {
            order,
            fields: fields.min(3),
            values: [0; FIELDS_MAX],
        };
        for (place, value) in option.values.iter_mut().zip(values).take(fields.into()) {
            *place = value & FIELD_MASK;
        }
        option
    }

    /// EE0B: the low 24 bits of the bytes received as ECT(0), and 1.
    #[must_use]
    pub fn ect0(&self) -> Option<u32> {
        self.field(match self.order {
            AccEcnOrder::Ect0First => 0,
            AccEcnOrder::Ect1First => 2,
        })
    }

    /// ECEB: the low 24 bits of the bytes received as CE.
    #[must_use]
    pub fn ce(&self) -> Option<u32> {
        self.field(1)
    }

    /// EE1B: the low 24 bits of the bytes received as ECT(1), and 1.
    #[must_use]
    pub fn ect1(&self) -> Option<u32> {
        self.field(match self.order {
            AccEcnOrder::Ect0First => 2,
            AccEcnOrder::Ect1First => 0,
        })
    }

    /// Which counter comes first.
    #[must_use]
    pub fn order(&self) -> AccEcnOrder {
        self.order
    }

    /// How many counters there are, 0 to 3.
    #[must_use]
    pub fn fields(&self) -> u8 {
        self.fields
    }

    /// Bytes in the option field of a header for an option of so many counters: whole words, at most 12.
    #[must_use]
    pub const fn padded_len_of(fields: u8) -> usize {
        match fields {
            0 => 4,
            1 | 2 => 8,
            _ => PADDED_MAX,
        }
    }

    pub(crate) fn padded_len(&self) -> usize {
        AccEcnOption::padded_len_of(self.fields)
    }

    fn field(&self, at: u8) -> Option<u32> {
        (at < self.fields).then(|| self.values[usize::from(at)])
    }

    /// From the bytes after kind and length. What is no whole field, or beyond the third one, is padding.
    pub(crate) fn read(kind: u8, value: &[u8]) -> AccEcnOption {
        let mut option = AccEcnOption {
            order: match kind {
                KIND_ORDER_1 => AccEcnOrder::Ect1First,
                _ => AccEcnOrder::Ect0First,
            },
            ..AccEcnOption::default()
        };
        let (fields, _) = value.as_chunks::<FIELD_LEN>();
        for (place, &[a, b, c]) in option.values.iter_mut().zip(fields) {
            *place = u32::from_be_bytes([0, a, b, c]);
            option.fields += 1;
        }
        option
    }

    /// Writes kind, length and fields to the end of the first [`Self::padded_len`] bytes of `out`, which holds NOPs.
    pub(crate) fn write(&self, out: &mut [u8; PADDED_MAX]) {
        let fields = usize::from(self.fields);
        let len = 2 + FIELD_LEN * fields;
        let at = self.padded_len() - len;
        // At most 11.
        let [len, ..] = len.to_le_bytes();
        out[at] = match self.order {
            AccEcnOrder::Ect0First => KIND_ORDER_0,
            AccEcnOrder::Ect1First => KIND_ORDER_1,
        };
        out[at + 1] = len;
        for (index, value) in self.values[..fields].iter().enumerate() {
            let [_, bytes @ ..] = value.to_be_bytes();
            let at = at + 2 + FIELD_LEN * index;
            out[at..at + FIELD_LEN].copy_from_slice(&bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TcpOptions;
    use std::vec;
    use std::vec::Vec;

    fn read(field: &[u8]) -> AccEcnOption {
        TcpOptions::parse(field).unwrap().accecn.unwrap()
    }

    fn written(option: AccEcnOption) -> Vec<u8> {
        let mut out = [1; PADDED_MAX];
        option.write(&mut out);
        out[..option.padded_len()].to_vec()
    }

    /// Figure 4 and table 5.
    #[test]
    fn order_0_begins_with_ect0_and_order_1_with_ect1() {
        let counters = [0x0001_0203, 0x0004_0506, 0x0007_0809];
        let field = [1, 172, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        let option = read(&field);
        assert_eq!(
            option,
            AccEcnOption::new(AccEcnOrder::Ect0First, counters, 3)
        );
        assert_eq!(written(option), field);
        let field = [1, 174, 11, 7, 8, 9, 4, 5, 6, 1, 2, 3];
        let option = read(&field);
        assert_eq!(
            option,
            AccEcnOption::new(AccEcnOrder::Ect1First, counters, 3)
        );
        assert_eq!(written(option), field);
        for option in [option, read(&[172, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9])] {
            let values = [option.ect0(), option.ce(), option.ect1()];
            assert_eq!(values, counters.map(Some));
        }
    }

    /// Table 5.
    #[test]
    fn fields_are_left_out_from_the_end() {
        let counters = [10, 20, 30];
        let seen = |order, fields| {
            let option = AccEcnOption::new(order, counters, fields);
            (option.ect0(), option.ce(), option.ect1())
        };
        use AccEcnOrder::{Ect0First, Ect1First};
        assert_eq!(seen(Ect0First, 0), (None, None, None));
        assert_eq!(seen(Ect0First, 1), (Some(10), None, None));
        assert_eq!(seen(Ect0First, 2), (Some(10), Some(20), None));
        assert_eq!(seen(Ect1First, 1), (None, None, Some(30)));
        assert_eq!(seen(Ect1First, 2), (None, Some(20), Some(30)));
    }

    /// Section 3.2.3: whole fields of any other length are used, the rest is padding.
    #[test]
    fn a_length_of_no_table_is_read_as_far_as_whole_fields_go() {
        for extra in 0..20 {
            let mut field = vec![172, 2 + extra];
            field.extend((1..=extra).collect::<Vec<u8>>());
            let option = read(&field);
            assert_eq!(option.fields(), (extra / 3).min(3), "{extra}");
            assert_eq!(option.ect0().is_some(), extra >= 3);
            assert_eq!(option.ce().is_some(), extra >= 6);
        }
    }

    #[test]
    fn counters_wrap_at_24_bits() {
        let option = AccEcnOption::new(AccEcnOrder::Ect0First, [0x0100_0001, u32::MAX, 0], 3);
        assert_eq!((option.ect0(), option.ce()), (Some(1), Some(0x00ff_ffff)));
    }

    #[test]
    fn what_is_written_is_whole_words_and_is_read_back() {
        for order in [AccEcnOrder::Ect0First, AccEcnOrder::Ect1First] {
            for fields in 0..=3 {
                let option =
                    AccEcnOption::new(order, [0x00ab_cdef, 0x0012_3456, 0x00fe_dcba], fields);
                let bytes = written(option);
                assert!(bytes.len().is_multiple_of(4));
                assert_eq!(read(&bytes), option);
            }
        }
    }
}
