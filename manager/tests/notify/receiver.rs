//! A real HTTP receiver of notifications that answers as it is told, hangs, or is gone.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// With this status.
    Answers(u16),
    /// Not at all: it reads and keeps the connection open.
    Hangs,
}

/// A message as it came.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) at: Instant,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// How it was answered.
    pub(crate) mood: Mood,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// `event subject` of each notification.
    pub(crate) fn events(&self) -> Vec<String> {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body["type"], "kattila.alarms", "{body}");
        let alarms = body["data"]["alarms"].as_array().unwrap();
        alarms
            .iter()
            .map(|alarm| {
                format!("{} {}", alarm["event"].as_str().unwrap(), alarm["subject"].as_str().unwrap())
            })
            .collect()
    }
}

/// The receiver; dropping it frees its port.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    pub(crate) got: Arc<Mutex<Vec<Got>>>,
    mood: Arc<Mutex<Mood>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Receiver {
    pub(crate) fn start(mood: Mood) -> Self {
        let mut receiver = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            got: Arc::default(),
            mood: Arc::new(Mutex::new(mood)),
            stop: Arc::default(),
            thread: None,
        };
        receiver.come();
        receiver
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Nobody listens any more.
    pub(crate) fn go(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }

    /// Listens, again at the same port.
    pub(crate) fn come(&mut self) {
        // The port may be in use by a connection that ends.
        let until = Instant::now() + Duration::from_secs(70);
        let listener = loop {
            match TcpListener::bind(self.address) {
                Ok(listener) => break listener,
                Err(error) => assert!(Instant::now() < until, "{}: {error}", self.address),
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        self.address = listener.local_addr().unwrap();
        self.stop = Arc::default();
        let (got, mood, stop) = (Arc::clone(&self.got), Arc::clone(&self.mood), Arc::clone(&self.stop));
        self.thread = Some(std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Some((headers, body)) = read(&stream) else { continue };
                let now = *mood.lock().unwrap();
                got.lock().unwrap().push(Got { at: Instant::now(), headers, body, mood: now });
                match now {
                    Mood::Answers(status) => answer(stream, status),
                    Mood::Hangs => held.push(stream),
                }
            }
        }));
    }

    pub(crate) fn all(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Messages answered with 2xx, each once however often it came: what a receiver that looks at
    /// `webhook-id` takes.
    pub(crate) fn taken(&self) -> Vec<Got> {
        let mut seen = Vec::new();
        let mut taken = Vec::new();
        for got in self.all() {
            let is_new = !seen.contains(&got.id().to_owned());
            if matches!(got.mood, Mood::Answers(200..=299)) && is_new {
                seen.push(got.id().to_owned());
                taken.push(got);
            }
        }
        taken
    }

    /// The notifications in the messages taken, in order.
    pub(crate) fn events(&self) -> Vec<String> {
        self.taken().iter().flat_map(Got::events).collect()
    }

    /// Waits until `probe` likes what came.
    pub(crate) fn wait(&self, what: &str, probe: impl Fn(&[Got]) -> bool) -> Vec<Got> {
        let until = Instant::now() + Duration::from_secs(90);
        loop {
            let got = self.all();
            if probe(&got) {
                return got;
            }
            assert!(Instant::now() < until, "{what}: not within 90 s: {got:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn read(mut stream: &TcpStream) -> Option<(BTreeMap<String, String>, Vec<u8>)> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            assert!(head.starts_with("POST /hook HTTP/1.1"), "{head}");
            let headers: BTreeMap<String, String> = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            let length: usize = headers["content-length"].parse().unwrap();
            if bytes.len() >= end + 4 + length {
                return Some((headers, bytes[end + 4..].to_vec()));
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend(&buffer[..count]),
        }
    }
}

fn answer(mut stream: TcpStream, status: u16) {
    let text = format!("HTTP/1.1 {status} Told\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(text.as_bytes());
}
