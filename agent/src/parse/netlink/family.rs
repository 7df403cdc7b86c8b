//! CTRL_CMD_NEWFAMILY: the number under which generic netlink knows a family of messages. Modules
//! get theirs when they are loaded.

use super::{Attributes, BadMessage, u16_at};

/// GENL_ID_CTRL (linux/genetlink.h), the family that tells of families.
pub const CONTROL: u16 = 0x10;
/// Bytes of `struct genlmsghdr` (linux/genetlink.h).
pub const HEADER: usize = 4;
/// The start of a question: CTRL_CMD_GETFAMILY, version 1.
pub const GET: [u8; HEADER] = [3, 1, 0, 0];
/// CTRL_ATTR_FAMILY_NAME (linux/genetlink.h), of the family that is asked for.
pub const NAME: u16 = 2;

const CTRL_ATTR_FAMILY_ID: u16 = 1;

/// A family's number.
///
/// # Errors
/// When there is none.
pub fn row(body: &[u8]) -> Result<u16, BadMessage> {
    let mut id = None;
    for attribute in Attributes::after(body, HEADER) {
        if let (CTRL_ATTR_FAMILY_ID, value) = attribute? {
            id = u16_at(value, 0);
        }
    }
    id.ok_or(BadMessage { field: "family number" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::netlink::request_attribute as encode;

    #[test]
    fn the_number_is_found_among_the_rest() {
        let name = encode(NAME, b"wireguard\0");
        let body = [GET.to_vec(), name.clone(), encode(CTRL_ATTR_FAMILY_ID, &33_u16.to_ne_bytes())].concat();
        assert_eq!(row(&body), Ok(33));
        for broken in [[GET.to_vec(), name].concat(), body[..25].to_vec(), GET.to_vec()] {
            assert!(row(&broken).is_err(), "{broken:?}");
        }
    }
}
