//! What becomes of a verified message: told apart, filed, and applied to the present, all inside the
//! writer's transaction.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::bases::Kept;
use crate::content::{Basis, Content, Says};
use crate::error::{Reject, StoreError};
use crate::fleet::{Agent, Latest};
use crate::gist::Gist;
use crate::inbox::{News, Present};
use crate::replay::{Replay, Verdict};
use crate::store::reports::NewReport;
use crate::store::writer::{Delivery, Registration};
use crate::store::{Connection, agents, reports, structure};
use crate::topology::Receipt;
use proto::ack::{Ack, Code, Details};
use proto::envelope::Header;
use proto::ids::{AgentId, BootId};

/// Agents that the manager keeps apart at most; a holder of the PSK must not fill its memory.
const FLEET_MAX: i64 = 200_000;
/// Boots of an agent that are remembered.
const BOOTS: u32 = 4;
/// A report that was signed this long after its host was read (ms, or two intervals where that is
/// more) comes from a spool: it says nothing of the present.
const SPOOLED_AFTER: i64 = 60_000;
/// Times that an agent's present may go back to an earlier boot within [`FLIP_MEMORY`] before that
/// is two agents with one id.
const FLIPS: u32 = 2;
const FLIP_MEMORY: i64 = 20 * 60_000;

/// What the writer knows of an agent that it heard of since it started.
#[derive(Debug)]
pub struct Live {
    /// What all threads may see of it after the commit, and share with it then.
    pub agent: Arc<Agent>,
    replay: Replay,
    structure: Option<u64>,
    flips: u32,
    flipped_at: i64,
}

/// What others must hear of reports once they are committed.
#[derive(Debug, Default)]
pub struct Learned {
    /// Those that tell the present.
    pub news: Vec<News>,
    /// Those that later ones may be the difference to.
    pub bases: Vec<(AgentId, Arc<Kept>)>,
}

/// Files a report, and notes in `learned` what others must hear of it. The inner result is what its
/// sender is told; the outer one fails the transaction.
///
/// # Errors
/// What the database says.
pub fn report(
    connection: &Connection,
    fleet: &mut HashMap<AgentId, Live>,
    delivery: Delivery,
    learned: &mut Learned,
) -> Result<Result<Ack, Reject>, StoreError> {
    let Delivery { header, received_at: now, psk, path, content } = delivery;
    let known = live(connection, fleet, header.agent)?;
    match known.map_or(Ok(Seen::No), |live| seen(connection, live, &header))? {
        Seen::No => {}
        Seen::Stored => return Ok(Ok(ack(Code::AlreadyStored, now))),
        Seen::Replayed => return Ok(Err(Reject::Replayed)),
    }
    let Content { payload, form, says, gist, basis } = match content {
        Ok(content) => content,
        Err(reject) => return Ok(Err(reject)),
    };
    let live = match fleet.entry(header.agent) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(_) if is_full(connection)? => return Ok(Err(Reject::FleetFull)),
        Entry::Vacant(empty) => {
            let agent = agents::insert(connection, header.agent, &gist.hardware, now)?;
            log::info!("agent {}: first report, from {}", header.agent, gist.hostname);
            empty.insert(Live::new(agent))
        }
    };
    let place = live.place(&header, &gist, says.observed_at(), now);
    if place == Place::Duplicate {
        return Ok(Err(Reject::DuplicateId));
    }
    let boot = match live.replay.boot(header.boot) {
        Some(boot) => boot.no,
        None => {
            let boot = agents::insert_boot(connection, live.agent.no, header.boot, header.sent_at, now)?;
            let no = boot.no;
            live.replay.add_boot(boot);
            no
        }
    };
    let new = NewReport {
        agent: live.agent.no,
        boot,
        tick: header.tick,
        nonce: header.nonce,
        received_at: now,
        sent_at: header.sent_at,
        observed_at: says.observed_at(),
        psk,
        late: place == Place::Late,
        path: &path,
        form,
        payload: &payload,
    };
    let Some(no) = reports::insert(connection, &new)? else {
        return Ok(Ok(ack(Code::AlreadyStored, now)));
    };
    live.replay.mark(header.boot, header.tick, header.nonce);
    Arc::make_mut(&mut live.agent).last_seen = Some(now);
    let (agent, boot, tick) = (header.agent, header.boot, header.tick);
    let kept = match basis {
        Basis::Whole(moving) => Some(Kept::new(no, (boot, tick), now, moving, Arc::clone(&gist))),
        Basis::Edited(base, edits) if place == Place::Present => {
            Some(base.edited(edits, tick, Arc::clone(&gist)))
        }
        Basis::Edited(..) | Basis::Old => None,
    };
    if place == Place::Present {
        let like = match &says {
            Says::Moved(_, base) => Some(base.like),
            Says::All(_) => kept.as_ref().map(|kept| kept.like),
        };
        let receipt = Receipt { agent, boot, tick, received_at: now, relay: path.clone() };
        live.apply(connection, no, &header, psk, path, (&says, &payload, &gist), now)?;
        if let Some(latest) = &mut Arc::make_mut(&mut live.agent).latest {
            latest.like = like;
        }
        learned.news.push(News::Report(receipt, Present { no, says, like }));
    }
    learned.bases.extend(kept.map(|kept| (agent, Arc::new(kept))));
    Ok(Ok(ack(Code::Stored, now)))
}

/// Confirms an agent's id at first contact, or issues another when other hardware holds it.
///
/// # Errors
/// What the database says.
pub fn register(
    connection: &Connection,
    fleet: &mut HashMap<AgentId, Live>,
    registration: &Registration,
) -> Result<Result<Ack, Reject>, StoreError> {
    let Registration { agent: id, received_at: now, hardware } = registration;
    let issued = match live(connection, fleet, *id)? {
        Some(live) if live.is_held_by_other(hardware) => {
            log::warn!("agent {id}: other hardware registers with this id; it gets another");
            AgentId::random().map_err(|_| StoreError::Closed)?
        }
        Some(live) => {
            if live.agent.hardware.is_empty() && !hardware.is_empty() {
                Arc::make_mut(&mut live.agent).hardware = hardware.as_str().into();
                agents::update(connection, &live.agent)?;
            }
            *id
        }
        None if is_full(connection)? => return Ok(Err(Reject::FleetFull)),
        None => {
            let agent = agents::insert(connection, *id, hardware, *now)?;
            log::info!("agent {id}: registered");
            fleet.insert(*id, Live::new(agent));
            *id
        }
    };
    let details = Details { agent: Some(issued), ..Details::default() };
    Ok(Ok(Ack { code: Code::Registered, at: *now, details }))
}

/// Whether a report tells the present, the past, or of a second agent with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Present,
    Late,
    Duplicate,
}

impl Live {
    fn new(agent: Agent) -> Self {
        Self { agent: Arc::new(agent), replay: Replay::default(), structure: None, flips: 0, flipped_at: 0 }
    }

    /// See DESIGN.md, "Which report is the present".
    fn place(&mut self, header: &Header, gist: &Gist, observed_at: i64, now: i64) -> Place {
        let Some(latest) = &self.agent.latest else { return Place::Present };
        if latest.boot == header.boot {
            return if header.tick > latest.tick { Place::Present } else { Place::Late };
        }
        let interval = i64::from(gist.interval_s.max(latest.interval_s)) * 1000;
        let spooled = header.sent_at - observed_at > SPOOLED_AFTER.max(2 * interval);
        if spooled || header.sent_at <= latest.sent_at {
            return Place::Late;
        }
        let active = now - latest.received_at <= 3 * interval.max(1000);
        if active && self.is_held_by_other(&gist.hardware) {
            return Place::Duplicate;
        }
        // An earlier boot that signs after a later one did is not over: two processes run.
        if self.replay.boot(header.boot).is_some() {
            if now - self.flipped_at > FLIP_MEMORY {
                self.flips = 0;
            }
            self.flipped_at = now;
            self.flips += 1;
        }
        if self.flips >= FLIPS && self.is_younger(header.boot, latest.boot) {
            return Place::Duplicate;
        }
        Place::Present
    }

    fn is_younger(&self, boot: BootId, than: BootId) -> bool {
        let position = |id| self.replay.boots.iter().position(|boot| boot.id == id);
        position(boot).unwrap_or(usize::MAX) > position(than).unwrap_or(0)
    }

    fn is_held_by_other(&self, hardware: &str) -> bool {
        !hardware.is_empty() && !self.agent.hardware.is_empty() && &*self.agent.hardware != hardware
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one report")]
    fn apply(
        &mut self,
        connection: &Connection,
        no: i64,
        header: &Header,
        psk: u32,
        path: Vec<AgentId>,
        (says, payload, gist): (&Says, &[u8], &Gist),
        now: i64,
    ) -> Result<(), StoreError> {
        let mut latest = Latest {
            report: no,
            boot: header.boot,
            tick: header.tick,
            sent_at: header.sent_at,
            received_at: now,
            observed_at: says.observed_at(),
            psk,
            path,
            interval_s: 0,
            clock_offset_ms: 0,
            spooled: 0,
            dropped: 0,
            problems: 0,
            like: None,
        };
        latest.describe(gist);
        let agent = Arc::make_mut(&mut self.agent);
        agent.latest = Some(latest);
        let names = (&gist.hostname, &gist.version, &gist.hardware);
        let is_news = names != (&agent.hostname, &agent.version, &agent.hardware);
        // Where they are equal, too: then one text of each is kept and not two.
        agent.hostname.clone_from(&gist.hostname);
        agent.version.clone_from(&gist.version);
        agent.hardware.clone_from(&gist.hardware);
        if is_news {
            agents::update(connection, agent)?;
        }
        if self.structure != Some(gist.structure) {
            match says.whole(connection, payload) {
                Ok(report) => {
                    structure::write(connection, self.agent.no, &report, now)?;
                    self.structure = Some(gist.structure);
                }
                // No other report must wait for what cannot be mended here; a whole one will.
                Err(StoreError::Broken(why)) => log::error!("the interfaces of agent {}: {why}", agent.id),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The agent's state in memory, read from the database when it was not heard of since the start.
fn live<'a>(
    connection: &Connection,
    fleet: &'a mut HashMap<AgentId, Live>,
    id: AgentId,
) -> Result<Option<&'a mut Live>, StoreError> {
    match fleet.entry(id) {
        Entry::Occupied(known) => Ok(Some(known.into_mut())),
        Entry::Vacant(empty) => {
            let Some(agent) = agents::load(connection, id)? else { return Ok(None) };
            let mut live = Live::new(agent);
            let boots = agents::boots(connection, live.agent.no, BOOTS)?;
            let nonces = reports::nonces(connection, live.agent.no)?;
            live.replay = Replay::restore(boots, &nonces);
            Ok(Some(empty.insert(live)))
        }
    }
}

/// Whether a message came before.
enum Seen {
    No,
    /// This very message was stored.
    Stored,
    /// Its tick or nonce was another message's.
    Replayed,
}

/// What memory says of a message, and the database where there is doubt.
fn seen(connection: &Connection, live: &Live, header: &Header) -> Result<Seen, StoreError> {
    let agent = live.agent.no;
    Ok(match live.replay.judge(header.boot, header.tick, header.nonce) {
        Verdict::New => Seen::No,
        Verdict::AskTick => match reports::nonce_of(connection, agent, header.boot, header.tick)? {
            Some(nonce) if nonce == header.nonce => Seen::Stored,
            Some(_) => Seen::Replayed,
            None => Seen::No,
        },
        Verdict::AskNonce if reports::nonces(connection, agent)?.contains(&header.nonce) => Seen::Replayed,
        Verdict::AskNonce => Seen::No,
    })
}

fn is_full(connection: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT coalesce(max(no), 0) FROM agents";
    let last: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(last >= FLEET_MAX)
}

fn ack(code: Code, now: i64) -> Ack {
    Ack { code, at: now, details: Details::default() }
}
