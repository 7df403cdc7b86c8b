//! What tells this hardware from a copy of its disk.

use std::fs;

use proto::ids::to_hex;
use proto::sign::sha256;

use super::Sources;
use super::files::SmallFiles;
use crate::parse::{interface_name, sysfs};

/// Where the machine id may be (machine-id(5)), below the root.
const MACHINE_ID: [&str; 2] = ["etc/machine-id", "var/lib/dbus/machine-id"];
/// Makes the hash useless for anything else that hashes a machine id, as machine-id(5) asks.
const PURPOSE: &str = "kattila hardware 1";

/// 32 lowercase hexadecimal digits that stay the same on one machine: half of the SHA-256 of a
/// fixed text, the machine id and one MAC address, parted by zero bytes. Neither can be had back
/// from it by anyone who does not know the other.
///
/// A copied disk brings its machine id along, but not the MAC, which is the one of the network card
/// with the lowest index that has a bus device behind it, whose address is its own
/// (`addr_assign_type` 0) and universally administered: made-up addresses, which change at every
/// start on some boards, do not count. Virtual machines mostly have made-up ones, so there only the
/// machine id counts.
///
/// Empty where the host has neither a machine id nor such a card: nothing tells it from a copy.
#[must_use]
pub fn hardware_id(sources: &Sources) -> String {
    let mut files = SmallFiles::default();
    let machine_id = machine_id(sources, &mut files).unwrap_or_default();
    let mac = permanent_mac(sources, &mut files).unwrap_or_default();
    if machine_id.is_empty() && mac.is_empty() {
        return String::new();
    }
    let parts = [PURPOSE, &machine_id, &mac, ""].join("\0");
    to_hex(&sha256(parts.as_bytes())[..16])
}

/// A machine id is 32 hexadecimal digits; `uninitialized` stands there during a first boot.
fn machine_id(sources: &Sources, files: &mut SmallFiles) -> Option<String> {
    MACHINE_ID.iter().find_map(|name| {
        let text = files.read(&sources.root.join(name)).ok()?.trim();
        let good = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        good.then(|| text.to_ascii_lowercase())
    })
}

fn permanent_mac(sources: &Sources, files: &mut SmallFiles) -> Option<String> {
    let class = sources.sys_root.join("class/net");
    let mut cards: Vec<(u32, String)> = fs::read_dir(&class)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| interface_name(name).is_some())
        .filter_map(|name| {
            let path = class.join(name);
            // A link to a bus device; symlink_metadata, so that a copied tree may hold a stand-in.
            fs::symlink_metadata(path.join("device")).ok()?;
            let own = files.read(&path.join("addr_assign_type")).ok().and_then(sysfs::number) == Some(0);
            let mac = files.read(&path.join("address")).ok().and_then(sysfs::hardware_address)?;
            let index = sysfs::ifindex(files.read(&path.join("uevent")).ok()?)?;
            (own && is_universal(&mac)).then_some((index, mac))
        })
        .collect();
    cards.sort_unstable();
    cards.into_iter().next().map(|(_, mac)| mac)
}

/// Whether the bit for locally administered addresses, the second lowest of the first byte, is off.
fn is_universal(mac: &str) -> bool {
    u8::from_str_radix(&mac[..2], 16).is_ok_and(|first| first & 0x02 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const ID: &str = "0123456789abcdef0123456789abcdef\n";

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn card(root: &Path, name: &str, index: u32, mac: &str, assign: u32) {
        let dir = format!("sys/class/net/{name}");
        write(root, &format!("{dir}/uevent"), &format!("INTERFACE={name}\nIFINDEX={index}\n"));
        write(root, &format!("{dir}/address"), &format!("{mac}\n"));
        write(root, &format!("{dir}/addr_assign_type"), &format!("{assign}\n"));
        write(root, &format!("{dir}/device"), "");
    }

    fn id_of(root: &Path) -> String {
        hardware_id(&Sources { root: root.to_owned(), sys_root: root.join("sys"), ..Sources::system() })
    }

    #[test]
    fn machine_id_and_first_permanent_mac_decide() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(id_of(root), "", "nothing to go by");
        write(root, "var/lib/dbus/machine-id", ID);
        let id_alone = id_of(root);
        assert_eq!(id_alone, "d60b3fa3faf640e60b1684c736c1a95e");
        write(root, "etc/machine-id", "uninitialized\n");
        assert_eq!(id_of(root), id_alone);

        card(root, "eth0", 3, "02:00:00:00:00:01", 0);
        card(root, "wlan0", 4, "00:1a:2b:00:00:09", 1);
        assert_eq!(id_of(root), id_alone, "made-up addresses count");
        card(root, "eth9", 12, "00:1a:2b:00:00:02", 0);
        let with_card = id_of(root);
        assert_ne!(with_card, id_alone);
        card(root, "eth10", 13, "00:1a:2b:00:00:01", 0);
        assert_eq!(id_of(root), with_card, "a later card counts");
        card(root, "eth1", 5, "00:1a:2b:00:00:03", 0);
        assert_ne!(id_of(root), with_card, "an earlier card does not count");
    }

    #[test]
    fn the_raw_values_do_not_show() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "etc/machine-id", ID);
        let id = id_of(dir.path());
        assert!(id.len() == 32 && !id.contains("01234567"), "{id}");
    }
}
