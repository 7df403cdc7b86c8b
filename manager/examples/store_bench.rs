//! Writes signed reports through the manager's own code, in transactions of a fixed size and on one
//! thread, so that instructions can be counted; `lab bench --callgrind` makes the file and counts.
//!
//! `PSK=... store_bench FILE DATABASE BATCH read|parse|verify|store`: FILE holds envelopes, a length of four
//! bytes (big endian) before each. Each stage does all of the one before; parse and verify want the database that
//! store leaves, as the texts of whole reports are read from it.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use kattila_manager::bases::{Bases, Kept};
use kattila_manager::clock::now_ms;
use kattila_manager::content::{Basis, Content};
use kattila_manager::intake::{self, Learned};
use kattila_manager::psks::Psks;
use kattila_manager::store::{self, Readers, writer::Delivery};
use kattila_manager::verify;
use proto::ack::Code;
use proto::envelope::Envelope;
use proto::ids::{AgentId, BootId};
use proto::psk::Secret;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, database, batch, stage] = &arguments[..] else {
        return Err("usage: store_bench FILE DATABASE BATCH read|parse|verify|store".into());
    };
    let psks = Psks { accepted: vec![(1, Secret::new(&std::env::var("PSK")?)?)], retired: Vec::new() };
    let bytes = std::fs::read(file)?;
    let envelopes = split(&bytes)?;
    let database = Path::new(database);
    let worker = Worker { psks, bases: Bases::default(), readers: Readers::new(database) };
    match stage.as_str() {
        "read" => {}
        "parse" => {
            for envelope in envelopes {
                std::hint::black_box(worker.content(&Envelope::parse(envelope)?)?);
            }
        }
        "verify" => {
            for envelope in envelopes {
                std::hint::black_box(worker.delivery(envelope)?);
            }
        }
        "store" => write(database, &envelopes, batch.parse()?, &worker)?,
        _ => return Err(format!("there is no stage {stage}").into()),
    }
    Ok(())
}

fn split(mut bytes: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let mut envelopes = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| "a length beyond memory")?;
        let (envelope, rest) = rest.split_at_checked(len).ok_or("the file ends within a report")?;
        envelopes.push(envelope);
        bytes = rest;
    }
    Ok(envelopes)
}

/// What a worker of the daemon knows.
struct Worker {
    psks: Psks,
    bases: Bases,
    readers: Readers,
}

impl Worker {
    /// What a report says. A whole one is a base at once, under no number while it is not stored: the one that it is
    /// stored under takes its place.
    fn content(&self, envelope: &Envelope<'_>) -> Result<Content, Box<dyn Error>> {
        let now = now_ms();
        let content = Content::read(envelope, &self.bases, &self.readers, now);
        let content = content.map_err(|reject| reject.to_string())?;
        let (agent, boot, tick) = (envelope.header.agent, envelope.header.boot, envelope.header.tick);
        let gist = Arc::clone(&content.gist);
        let kept = match &content.basis {
            Basis::Old => None,
            Basis::Whole(moving) => {
                Some(Kept::new(self.number(agent, boot, tick)?, (boot, tick), now, moving.clone(), gist))
            }
            Basis::Edited(base, edits) => Some(base.edited(edits.clone(), tick, gist)),
        };
        self.bases.put(kept.map(|kept| (agent, Arc::new(kept))), now);
        Ok(content)
    }

    /// The number of a report in the database, 0 where it is not there.
    fn number(&self, agent: AgentId, boot: BootId, tick: u64) -> Result<i64, Box<dyn Error>> {
        let sql = "SELECT coalesce(max(no), 0) FROM reports WHERE tick = ?3
                   AND agent = (SELECT no FROM agents WHERE id = ?1) AND boot = (SELECT no FROM boots WHERE id = ?2)";
        let tick = i64::try_from(tick)?;
        let found = self
            .readers
            .read(|db| Ok(db.prepare_cached(sql)?.query_row((agent.0, boot.0, tick), |row| row.get(0))?));
        Ok(found.map_err(|error| error.to_string())?)
    }

    /// What is done with a report before the writer has it.
    fn delivery(&self, bytes: &[u8]) -> Result<Delivery, Box<dyn Error>> {
        let envelope = Envelope::parse(bytes)?;
        let verified = verify::authentic(&envelope, &self.psks).map_err(|reject| reject.to_string())?;
        let received_at = now_ms();
        verify::fresh(&envelope.header, received_at).map_err(|reject| reject.to_string())?;
        let content = Ok(self.content(&envelope)?);
        Ok(Delivery { header: envelope.header, received_at, psk: verified.psk, path: verified.path, content })
    }
}

fn write(database: &Path, envelopes: &[&[u8]], batch: usize, worker: &Worker) -> Result<(), Box<dyn Error>> {
    let connection = store::open(database).map_err(|error| error.to_string())?;
    let mut fleet = HashMap::new();
    for batch in envelopes.chunks(batch.max(1)) {
        let mut learned = Learned::default();
        let transaction = connection.unchecked_transaction()?;
        for envelope in batch {
            let filed = intake::report(&transaction, &mut fleet, worker.delivery(envelope)?, &mut learned);
            let ack = filed.map_err(|error| error.to_string())?.map_err(|reject| reject.to_string())?;
            if ack.code != Code::Stored {
                return Err(format!("a report was answered {}", ack.code).into());
            }
        }
        transaction.commit()?;
        worker.bases.put(learned.bases, now_ms());
    }
    Ok(())
}
