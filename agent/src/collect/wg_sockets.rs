//! The control sockets of userspace WireGuard (wireguard-go, boringtun): one for each device.

use std::fmt;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike as _};
use proto::ids::PublicKey;
use proto::sign::sha256;

use crate::parse::uapi::{self, Answer};
use crate::parse::{interface_name, x25519};

/// Where a userspace WireGuard has the socket of each device, as `NAME.sock`.
const FOLDER: &str = "var/run/wireguard";
/// How long one daemon may take: it answers within milliseconds.
const DEADLINE: Duration = Duration::from_secs(1);
/// How long all of them may take, those that hang above all.
const DEADLINE_ALL: Duration = Duration::from_secs(3);
/// Largest answer: over 10,000 peers of 380 bytes.
const ANSWER_MAX: u64 = 4 << 20;
/// Bytes that are read at a time.
const BUFFER: usize = 4 << 10;

/// The control sockets of a host, and the keys of the devices behind them.
#[derive(Debug, Default)]
pub struct WgSockets {
    /// By the hash of its private key, the public key of each device that was told of last: making
    /// one takes longer than all the rest.
    keys: Mutex<Vec<([u8; 32], PublicKey)>>,
}

/// Why a daemon did not tell of its device.
#[derive(Debug)]
pub(super) enum SocketError {
    /// It could not be asked, or stopped in the middle.
    Io(io::Error),
    /// It did not answer in time.
    Late,
    /// Its answer is too long.
    Flood,
    /// It refused, with this error number.
    Refused(i32),
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                f.write_str("no WireGuard answers there any more")
            }
            Self::Io(error) => write!(f, "{error}"),
            Self::Late => f.write_str("WireGuard does not answer there"),
            Self::Flood => write!(f, "an answer of more than {} MiB", ANSWER_MAX >> 20),
            Self::Refused(number) => write!(f, "WireGuard refuses there with error {number}"),
        }
    }
}

impl From<io::Error> for SocketError {
    fn from(error: io::Error) -> Self {
        // What a socket with a time limit says when it is over.
        let late = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind());
        if late { Self::Late } else { Self::Io(error) }
    }
}

impl SocketError {
    /// Whether it takes more rights to ask.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// The sockets of a host by the name of their device, whether or not anybody listens there.
///
/// # Errors
/// When their folder cannot be read although it is there.
pub(super) fn list(root: &Path) -> Result<Vec<(String, PathBuf)>, (PathBuf, SocketError)> {
    let folder = root.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err((folder, error.into())),
        Ok(entries) => entries,
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let file = entry.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(".sock")).and_then(interface_name);
        found.extend(name.map(|name| (name.to_owned(), entry.path())));
    }
    found.sort_unstable();
    Ok(found)
}

impl WgSockets {
    /// Asks the daemons behind `sockets`, one after the other; what each answered.
    pub(super) fn ask(&self, sockets: &[(String, PathBuf)]) -> Vec<Result<Answer, SocketError>> {
        let end = Instant::now() + DEADLINE_ALL;
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let mut used = Vec::new();
        let mut public_key = |private: &[u8; 32]| {
            let hash = sha256(private);
            let known = keys.iter().find(|(known, _)| *known == hash).map(|(_, key)| *key);
            let key = known.unwrap_or_else(|| x25519::public_key(private));
            used.push((hash, key));
            key
        };
        let answers = sockets
            .iter()
            .map(|(name, path)| {
                let mut answer = ask(path, end.min(Instant::now() + DEADLINE), &mut public_key)?;
                answer.device.name.clone_from(name);
                Ok(answer)
            })
            .collect();
        *keys = used;
        answers
    }
}

fn ask(
    path: &Path,
    deadline: Instant,
    public_key: &mut dyn FnMut(&[u8; 32]) -> PublicKey,
) -> Result<Answer, SocketError> {
    let mut stream = open(path, deadline)?;
    stream.write_all(uapi::GET)?;
    let mut lines = BufReader::with_capacity(BUFFER, Timed { stream, deadline }.take(ANSWER_MAX));
    let (mut answer, mut line) = (Answer::default(), String::new());
    while answer.errno.is_none() {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            let is_cut = lines.get_ref().limit() == 0;
            let error = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(if is_cut { SocketError::Flood } else { error.into() });
        }
        answer.line(line.trim_end_matches('\n'), public_key);
    }
    match answer.errno {
        Some(number) if number != 0 => Err(SocketError::Refused(number)),
        _ => Ok(answer),
    }
}

/// A connection whose calls return by about `deadline`; the first may wait too, for a daemon that
/// hangs and has many waiting.
fn open(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // A limit of zero would be none.
    let limit = TimeVal::milliseconds(i64::try_from(left.as_millis()).unwrap_or(0) + 1);
    setsockopt(&fd, SendTimeout, &limit)?;
    setsockopt(&fd, ReceiveTimeout, &limit)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd.into())
}

/// A stream of which nothing is read after a deadline, however slowly it comes.
struct Timed {
    stream: UnixStream,
    deadline: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() >= self.deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// A daemon that gives `answer` to the first who asks, byte by byte with `pause` between, and then
    /// waits until it is left.
    fn daemon(path: &Path, answer: Vec<u8>, pause: Duration) {
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 7];
            stream.read_exact(&mut asked).unwrap();
            assert_eq!(asked, *uapi::GET);
            let size = if pause.is_zero() { answer.len().max(1) } else { 1 };
            for part in answer.chunks(size) {
                if stream.write_all(part).is_err() {
                    return;
                }
                thread::sleep(pause);
            }
            let _ = stream.read(&mut asked);
        });
    }

    fn ask_one(name: &str, answer: &[u8], pause: Duration) -> Result<Answer, SocketError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        daemon(&path, answer.to_vec(), pause);
        WgSockets::default().ask(&[("wg0".to_owned(), path)]).remove(0)
    }

    #[test]
    fn an_answer_is_read_to_its_errno() {
        let text = format!("listen_port=7\npublic_key={}\nerrno=0\n\nlisten_port=8\n", "01".repeat(32));
        let answer = ask_one("a.sock", text.as_bytes(), Duration::ZERO).unwrap();
        assert_eq!((answer.device.name.as_str(), answer.device.listen_port), ("wg0", 7));
        assert_eq!(answer.device.peers.len(), 1);
        assert!(matches!(ask_one("b.sock", b"errno=13\n\n", Duration::ZERO), Err(SocketError::Refused(13))));
    }

    #[test]
    fn who_hangs_or_trickles_is_left_after_a_second() {
        for (answer, pause) in [(&b""[..], Duration::ZERO), (&[b'x'; 1000][..], Duration::from_millis(50))] {
            let begin = Instant::now();
            assert!(matches!(ask_one("c.sock", answer, pause), Err(SocketError::Late)));
            let took = begin.elapsed();
            assert!(took >= DEADLINE && took < DEADLINE + Duration::from_secs(2), "{took:?}");
        }
    }

    #[test]
    fn many_that_hang_cost_three_seconds_together() {
        let folder = tempfile::tempdir().unwrap();
        let sockets: Vec<_> =
            (0..6).map(|n| (format!("wg{n}"), folder.path().join(format!("wg{n}")))).collect();
        let listeners: Vec<_> = sockets.iter().map(|(_, path)| UnixListener::bind(path).unwrap()).collect();
        let begin = Instant::now();
        let answers = WgSockets::default().ask(&sockets);
        assert!(answers.iter().all(|answer| matches!(answer, Err(SocketError::Late))), "{answers:?}");
        assert!(begin.elapsed() < DEADLINE_ALL + Duration::from_secs(2));
        drop(listeners);
    }

    #[test]
    fn too_much_and_too_little_are_errors() {
        let flood = vec![b'x'; usize::try_from(ANSWER_MAX).unwrap() + 1];
        assert!(matches!(ask_one("d.sock", &flood, Duration::ZERO), Err(SocketError::Flood)));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wg0.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let closing = thread::spawn(move || drop(listener.accept()));
        let error = ask(&path, Instant::now() + DEADLINE, &mut x25519::public_key).unwrap_err();
        closing.join().unwrap();
        assert!(matches!(error, SocketError::Io(_)), "{error}");
        // The file is still there, and nobody listens.
        let error = ask(&path, Instant::now() + DEADLINE, &mut x25519::public_key).unwrap_err();
        assert_eq!(error.to_string(), "no WireGuard answers there any more");
    }

    #[test]
    fn sockets_are_found_by_name_and_their_keys_remembered() {
        let root = tempfile::tempdir().unwrap();
        assert!(list(root.path()).unwrap().is_empty(), "no folder, no userspace WireGuard");
        let folder = root.path().join(FOLDER);
        fs::create_dir_all(&folder).unwrap();
        for name in ["wg1.sock", "wg0.sock", "wg0.name", "not a name.sock"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let found = list(root.path()).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["wg0", "wg1"]);

        let sockets = WgSockets::default();
        let path = folder.join("wg2.sock");
        let told = format!("private_key={}\nerrno=0\n\n", "40".repeat(32));
        let mut keys = Vec::new();
        for _ in 0..2 {
            daemon(&path, told.clone().into_bytes(), Duration::ZERO);
            let answer = sockets.ask(&[("wg2".to_owned(), path.clone())]).remove(0).unwrap();
            keys.push((answer.device.public_key.unwrap(), sockets.keys.lock().unwrap().clone()));
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(keys[0], keys[1]);
        assert_eq!(keys[0].1, [(sha256(&[0x40; 32]), keys[0].0)]);
        assert!(sockets.ask(&[]).is_empty() && sockets.keys.lock().unwrap().is_empty());
    }
}
