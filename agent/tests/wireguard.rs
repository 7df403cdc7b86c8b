//! WireGuard as the kernel and control sockets tell it, against `wg` on the same state, and what
//! comes of sources that do not tell.

#![expect(clippy::unwrap_used, reason = "the helpers, too, are tests")]

mod wg_dump;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::UNIX_EPOCH;

use kattila_agent::collect::{Addresses, Netlink, Question, Sources, WgSockets, collect};
use kattila_agent::parse::netlink::{Messages, family, request, wireguard};
use kattila_agent::parse::uapi::Answer;
use kattila_agent::parse::x25519;
use proptest::prelude::*;
use proto::ids::PublicKey;
use proto::report::{Problem, Report, Source, SystemData, WireGuardDevice};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernel-wireguard")
}

/// What `wg` told of the fixture's host.
fn dumped() -> Vec<WireGuardDevice> {
    wg_dump::parse(&fs::read_to_string(fixture().join("wg.dump")).unwrap())
}

/// A host of which netlink's answers and sockets are known, in a folder of its own.
struct Host(tempfile::TempDir);

impl Host {
    /// The fixture's kernel.
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        fs::create_dir(host.path("netlink")).unwrap();
        for file in fs::read_dir(fixture().join("netlink")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), host.path("netlink").join(file.file_name())).unwrap();
        }
        fs::create_dir_all(host.path("var/run/wireguard")).unwrap();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn answer(&self, file: &str, bytes: &[u8]) {
        fs::write(self.path("netlink").join(file), bytes).unwrap();
    }

    /// A userspace device, whose daemon answers once.
    fn daemon(&self, name: &str, answer: &str) {
        let listener = UnixListener::bind(self.path(&format!("var/run/wireguard/{name}.sock"))).unwrap();
        let answer = answer.to_owned();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 7]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
    }

    /// What is reported of WireGuard, and the problems with it.
    fn read(&self) -> (SystemData, Vec<String>) {
        let root = self.0.path().to_owned();
        let sources = Sources {
            proc_root: root.join("proc"),
            sys_root: root.join("sys"),
            netlink: Netlink::Recorded(root.join("netlink")),
            wg_sockets: WgSockets::default(),
            addresses: Addresses::Fixed(Vec::new()),
            arch: String::new(),
            root,
        };
        let (system, problems) =
            collect(&sources, UNIX_EPOCH + std::time::Duration::from_secs(u64::from(u32::MAX)));
        let report = Report { system: system.clone(), problems: problems.clone(), ..Report::default() };
        let json = serde_json::to_vec(&report).unwrap();
        assert_eq!(Report::from_json(&json).unwrap(), report, "the manager takes it");
        let is_of_wireguard =
            |problem: &&Problem| problem.source == "wg" || problem.source.starts_with("netlink wireguard");
        let said = problems.iter().filter(is_of_wireguard).map(|problem| problem.message.clone()).collect();
        (system, said)
    }
}

/// Devices without the ages, which take a clock, and with no more prefixes than a report holds.
fn reported(mut devices: Vec<WireGuardDevice>) -> Vec<WireGuardDevice> {
    for peer in devices.iter_mut().flat_map(|device| &mut device.peers) {
        peer.handshake_age_s = None;
        peer.allowed_ips.truncate(proto::limits::ALLOWED_IPS_MAX);
    }
    devices
}

/// What a kernel that refuses answers: an error instead of rows.
fn refusal(number: i32) -> Vec<u8> {
    request(2, 0, 1, &[&number.to_ne_bytes()[..], &[0; 16]].concat())
}

#[cfg(target_endian = "little")]
mod kernel {
    use super::*;

    fn recorded(file: &str) -> Vec<u8> {
        fs::read(fixture().join("netlink").join(file)).unwrap()
    }

    /// The device of an answer.
    fn device(file: &str) -> WireGuardDevice {
        let mut device = WireGuardDevice::default();
        let bytes = recorded(file);
        let messages: Vec<_> = Messages::new(&bytes).map(Result::unwrap).collect();
        let (end, rows) = messages.split_last().unwrap();
        assert_eq!(end.kind, 3, "NLMSG_DONE");
        rows.iter().for_each(|message| wireguard::row(message.body, &mut device).unwrap());
        device
    }

    #[test]
    fn a_debian_kernel_is_read_as_wg_reads_it() {
        let mut devices =
            ["wireguard-11", "wireguard-12", "wireguard-13", "wireguard-14"].map(device).to_vec();
        devices.iter_mut().for_each(|device| device.peers.sort_by_key(|peer| peer.public_key));
        let expected = dumped();
        let long = expected[0].peers.iter().map(|peer| peer.allowed_ips.len()).max().unwrap();
        assert!(expected[0].peers.len() > 60 && long > 1000, "the fixture takes several messages");
        assert!(recorded("wireguard-11").len() > 40_000);
        for (ours, theirs) in devices.iter_mut().zip(&expected) {
            for peer in &mut ours.peers {
                // The fixture's veth e0 has this number.
                peer.endpoint = peer.endpoint.as_ref().map(|text| text.replace("%10]", "%e0]"));
            }
            assert_eq!(ours, theirs);
        }
        assert_eq!(devices.len(), expected.len());
    }

    #[test]
    fn a_host_is_reported_with_all_its_devices() {
        let (system, problems) = Host::new().read();
        assert_eq!(reported(system.wireguard), reported(dumped()));
        assert_eq!(system.wireguard_source, Source::Netlink);
        assert_eq!(system.peers_total, 66);
        assert_eq!(problems, ["1 peers have over 64 AllowedIPs, 64 are listed"]);
    }

    #[test]
    fn daemons_are_read_as_wg_reads_them() {
        let host = Host::new();
        host.answer("links", &request(3, 2, 1, &[0; 4]));
        let dump = fs::read_to_string(fixture().join("wg.dump")).unwrap();
        wg_dump::of_daemons(&dump).iter().for_each(|(name, answer)| host.daemon(name, answer));
        let (system, problems) = host.read();
        assert_eq!(reported(system.wireguard), reported(dumped()));
        assert_eq!((system.wireguard_source, problems.len()), (Source::Uapi, 1));
    }

    #[test]
    fn what_the_kernel_refuses_is_said() {
        for (files, number, what) in [
            (
                vec!["wireguard-11", "wireguard-12", "wireguard-13", "wireguard-14"],
                1,
                "Operation not permitted",
            ),
            (vec!["wireguard-family"], 2, "No such file or directory"),
        ] {
            let host = Host::new();
            files.iter().for_each(|file| host.answer(file, &refusal(-number)));
            let (system, problems) = host.read();
            assert_eq!((system.wireguard_source, system.wireguard.len()), (Source::None, 0));
            let [problem] = problems.as_slice() else { panic!("{problems:?}") };
            assert!(problem.starts_with(&format!("netlink: the kernel refused: {what}")), "{problem}");
            assert_eq!(problem.contains("CAP_NET_ADMIN"), number == 1, "{problem}");
        }
    }

    #[test]
    fn a_device_that_has_gone_meanwhile_is_no_problem() {
        let host = Host::new();
        host.answer("wireguard-12", &refusal(-19));
        let (system, problems) = host.read();
        let names: Vec<&str> = system.wireguard.iter().map(|device| device.name.as_str()).collect();
        assert_eq!((names, problems.len()), (vec!["wg0", "wg2", "wg3"], 1));
    }

    #[test]
    fn userspace_devices_stand_beside_the_kernels() {
        let host = Host::new();
        let key = "01".repeat(32);
        let told = format!("listen_port=7\npublic_key={key}\nallowed_ip=10.0.0.1/32\nerrno=0\n\n");
        host.daemon("tun7", &told);
        host.daemon("wg1", "errno=5\n\n");
        fs::write(host.path("var/run/wireguard/stale.sock"), "").unwrap();
        let (system, problems) = host.read();
        let names: Vec<&str> = system.wireguard.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["tun7", "wg0", "wg1", "wg2", "wg3"]);
        assert_eq!(system.wireguard[0].peers[0].public_key, PublicKey([1; 32]));
        assert_eq!((system.wireguard_source, system.peers_total), (Source::Netlink, 67));
        // wg1 is the kernel's, and its socket is not asked.
        let stale = host.path("var/run/wireguard/stale.sock").display().to_string();
        assert_eq!(problems[0], format!("{stale}: no WireGuard answers there any more"));
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn no_secret_is_ever_shown() {
        let dump = fs::read_to_string(fixture().join("wg.dump")).unwrap();
        let secrets = wg_dump::secrets(&dump);
        assert!(secrets.len() > 60);
        let shown = format!("{:?}", Host::new().read());
        for secret in secrets {
            let PublicKey(bytes) = secret.parse().unwrap();
            assert!(!shown.contains(secret) && !shown.contains(&format!("{bytes:?}")));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_damaged_answer_still_gives_a_report(
            damages in prop::collection::vec(
                (0_usize..5, any::<prop::sample::Index>(), any::<u8>(), any::<bool>()),
                1..12,
            ),
        ) {
            let files = ["wireguard-family", "wireguard-11", "wireguard-12", "wireguard-13", "wireguard-14"];
            let mut answers = files.map(recorded);
            for (answer, at, value, cut) in damages {
                let answer = &mut answers[answer];
                if !answer.is_empty() {
                    let at = at.index(answer.len());
                    if cut && value < 32 { answer.truncate(at) } else { answer[at] = value }
                }
            }
            let host = Host::new();
            for (file, answer) in files.iter().zip(&answers) {
                host.answer(file, answer);
            }
            let _ = host.read();
        }

        #[test]
        fn no_parser_panics_on_damaged_messages(
            at in any::<prop::sample::Index>(),
            damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            end in any::<prop::sample::Index>(),
        ) {
            let bytes = recorded("wireguard-11");
            let bodies: Vec<&[u8]> = Messages::new(&bytes).map(|message| message.unwrap().body).collect();
            let mut body = bodies[at.index(bodies.len())].to_vec();
            for (at, value) in damages {
                let at = at.index(body.len());
                body[at] = value;
            }
            parse_all(&body);
            parse_all(&body[..end.index(body.len() + 1)]);
        }
    }
}

#[test]
fn a_host_without_wireguard_is_well_without_wg() {
    let host = Host::new();
    let link = [&[0, 0, 1, 0, 5, 0, 0, 0][..], &[0; 8], &[9, 0, 3, 0], b"eth0\0\0\0\0"].concat();
    host.answer("links", &[request(16, 2, 1, &link), request(3, 2, 1, &[0; 4])].concat());
    let (system, problems) = host.read();
    assert_eq!((system.wireguard_source, system.wireguard.len(), problems.len()), (Source::Netlink, 0, 0));
}

#[test]
fn userspace_devices_alone_are_so_named() {
    let host = Host::new();
    host.answer("links", &request(3, 2, 1, &[0; 4]));
    host.daemon("wg0", "listen_port=7\nerrno=0\n\n");
    let (system, problems) = host.read();
    assert_eq!((system.wireguard_source, problems.len()), (Source::Uapi, 0));
    assert_eq!((system.wireguard[0].name.as_str(), system.wireguard[0].listen_port), ("wg0", 7));

    let host = Host::new();
    host.answer("links", &request(3, 2, 1, &[0; 4]));
    host.daemon("wg0", "errno=5\n\n");
    let (system, problems) = host.read();
    assert_eq!((system.wireguard_source, system.wireguard.len()), (Source::None, 0));
    assert!(problems[0].ends_with("wg0.sock: WireGuard refuses there with error 5"), "{problems:?}");
}

#[test]
fn rows_of_a_socket_that_cannot_be_read_are_told() {
    let host = Host::new();
    let told = format!("public_key={}\nrx_bytes=secret\npublic_key=x\nerrno=0\n\n", "02".repeat(32));
    host.answer("links", &request(3, 2, 1, &[0; 4]));
    host.daemon("wg0", &told);
    let (system, problems) = host.read();
    assert_eq!((system.wireguard_source, system.peers_total), (Source::Uapi, 0));
    let end = "wg0.sock: line 2, column 2: not a valid number of bytes received; 2 such left out";
    assert!(problems[0].ends_with(end), "{problems:?}");
}

/// Both parsers of a device's bytes.
fn parse_all(bytes: &[u8]) {
    let mut device = WireGuardDevice::default();
    let _ = (wireguard::row(bytes, &mut device), family::row(bytes));
    let prefixes = device.peers.iter().map(|peer| 1 + peer.allowed_ips.len()).sum::<usize>();
    assert!(prefixes <= bytes.len(), "more rows than bytes");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        parse_all(&bytes);
    }

    #[test]
    fn any_lines_are_read_or_refused(
        lines in prop::collection::vec(
            ("(private_key|public_key|preshared_key|endpoint|allowed_ip|rx_bytes|errno|fwmark)?", "(=\\PC{0,70}|=[0-9a-f]{64}|)"),
            0..30,
        ),
    ) {
        let mut answer = Answer::default();
        for (name, value) in &lines {
            answer.line(&format!("{name}{value}"), &mut |_| PublicKey([0; 32]));
        }
        prop_assert!(answer.device.peers.len() + answer.bad_lines <= lines.len());
    }

    #[test]
    fn every_private_key_has_a_public_one(private in any::<[u8; 32]>()) {
        // What clamping takes away or adds does not count.
        let mut same = private;
        same[0] ^= 7;
        same[31] ^= 0xc0;
        prop_assert_eq!(x25519::public_key(&private), x25519::public_key(&same));
        prop_assert_ne!(x25519::public_key(&private).0, [0; 32]);
    }
}

#[test]
fn recorded_answers_have_names_of_their_own() {
    let device = |index| Question::WireGuard { family: 33, index };
    assert_eq!([device(1).file(), device(12).file()], ["wireguard-1", "wireguard-12"]);
    assert_eq!(Question::Links.file(), Question::Links.name());
}
