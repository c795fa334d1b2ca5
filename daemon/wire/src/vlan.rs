//! VLAN tags (IEEE 802.1Q): at most two, as in provider bridging.
//!
//! Tags are kept as they came, so that an answer carries the same ones. Which VLAN identifiers are ours is
//! the caller's configuration. Tags that hardware stripped are not in the frame and not seen here.

use crate::be;

/// TPID of a customer tag, 802.1Q.
pub(crate) const TPID_CUSTOMER: u16 = 0x8100;
/// TPID of a service tag, 802.1ad.
pub(crate) const TPID_SERVICE: u16 = 0x88a8;
/// Bytes of one tag on the wire.
pub(crate) const TAG_LEN: usize = 4;

/// One tag: protocol identifier and control information.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct VlanTag {
    /// Tag protocol identifier: 0x8100 or 0x88a8.
    pub tpid: u16,
    /// Tag control information: priority (3 bits), drop eligible (1), VLAN identifier (12).
    pub tci: u16,
}

impl VlanTag {
    /// The VLAN identifier, 0..=4095; 0 is a priority tag without a VLAN.
    #[must_use]
    pub const fn vid(self) -> u16 {
        self.tci & 0x0fff
    }

    pub(crate) const fn is_tpid(ether_type: u16) -> bool {
        matches!(ether_type, TPID_CUSTOMER | TPID_SERVICE)
    }

    pub(crate) fn to_bytes(self) -> [u8; TAG_LEN] {
        let mut bytes = [0; TAG_LEN];
        be::put(&mut bytes, 0, self.tpid.to_be_bytes());
        be::put(&mut bytes, 2, self.tci.to_be_bytes());
        bytes
    }
}

/// None, one or two tags, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct VlanTags {
    // Unused places stay zero, so that the derived equality compares tags only.
    tags: [VlanTag; VlanTags::MAX],
    len: u8,
}

impl VlanTags {
    /// The number of tags a frame may carry.
    pub const MAX: usize = 2;

    /// An untagged frame.
    pub const NONE: VlanTags = VlanTags {
        tags: [VlanTag { tpid: 0, tci: 0 }; VlanTags::MAX],
        len: 0,
    };

    /// Adds an inner tag; false, and nothing changed, when there are two already.
    #[must_use]
    pub fn push(&mut self, tag: VlanTag) -> bool {
        match self.tags.get_mut(usize::from(self.len)) {
            Some(place) => {
                *place = tag;
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// The tags, outermost first.
    #[must_use]
    pub fn as_slice(&self) -> &[VlanTag] {
        &self.tags[..usize::from(self.len)]
    }

    /// The number of tags, 0..=2.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the frame is untagged.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_tag_is_refused_and_changes_nothing() {
        let mut tags = VlanTags::NONE;
        assert!(tags.push(VlanTag {
            tpid: TPID_SERVICE,
            tci: 7
        }));
        assert!(tags.push(VlanTag {
            tpid: TPID_CUSTOMER,
            tci: 8
        }));
        let two = tags;
        assert!(!tags.push(VlanTag {
            tpid: TPID_CUSTOMER,
            tci: 9
        }));
        assert_eq!(tags, two);
        assert_eq!(tags.as_slice()[0].vid(), 7);
    }

    #[test]
    fn the_identifier_is_the_low_twelve_bits() {
        assert_eq!(
            VlanTag {
                tpid: TPID_CUSTOMER,
                tci: 0xf064
            }
            .vid(),
            0x064
        );
    }
}
