//! A report's payload as it came -> what it says. A difference is read with the report that it is to.

use std::borrow::Cow;
use std::sync::Arc;

use proto::delta::{Base, DeltaError, Edits};
use proto::envelope::{Encoding, Envelope, PayloadError, decode};
use proto::limits::PAYLOAD_MAX;
use proto::report::{Report, ReportError};

use crate::bases::{Bases, Kept};
use crate::counts::Counts;
use crate::error::{Reject, StoreError};
use crate::gist::Gist;
use crate::moving::Moving;
use crate::store::{Connection, Readers, reports};

/// What came in a report's payload.
#[derive(Debug)]
pub struct Content {
    /// The payload as it came, which is how it is stored.
    pub payload: Vec<u8>,
    /// How it is written.
    pub form: Form,
    /// What it says.
    pub says: Says,
    /// What is kept of that at hand.
    pub gist: Arc<Gist>,
    /// What later reports may be read by.
    pub basis: Basis,
}

/// How a stored payload is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JSON as it is.
    Json,
    /// Deflated JSON.
    Deflated,
    /// The difference to the report of this number in the database.
    Delta(i64),
}

/// What later reports may be read by, as soon as this one is stored.
#[derive(Debug)]
pub enum Basis {
    /// What those before were read by.
    Old,
    /// This report, in which this may move.
    Whole(Option<Moving>),
    /// What this is the difference to, with what this one changes of it.
    Edited(Arc<Kept>, Edits),
}

/// What a report says.
#[derive(Debug)]
pub enum Says {
    /// All of it.
    All(Box<Report>),
    /// What moved since an earlier report of its agent, from which it differs in nothing else.
    Moved(Box<Counts>, Arc<Kept>),
}

impl Says {
    /// When the host was read (ms, the sender's clock as corrected).
    #[must_use]
    pub fn observed_at(&self) -> i64 {
        match self {
            Self::All(report) => report.observed_at,
            Self::Moved(counts, _) => counts.observed_at,
        }
    }

    /// The report, of which this is the payload.
    ///
    /// # Errors
    /// What SQLite says, or [`StoreError::Broken`].
    pub fn whole(&self, db: &Connection, payload: &[u8]) -> Result<Cow<'_, Report>, StoreError> {
        let kept = match self {
            Self::All(report) => return Ok(Cow::Borrowed(report)),
            Self::Moved(_, kept) => kept,
        };
        let broken = |why: String| StoreError::Broken(format!("a difference to report {}: {why}", kept.no));
        let base = Base::new(reports::text(db, kept.no)?);
        let json = base.apply(payload, PAYLOAD_MAX).map_err(|why| broken(why.to_string()))?;
        Report::from_json(&json).map(Cow::Owned).map_err(|why| broken(why.to_string()))
    }
}

impl Content {
    /// A report that came as JSON.
    ///
    /// # Errors
    /// When it is not of a report's shape.
    pub fn from_json(json: Vec<u8>) -> Result<Self, ReportError> {
        let report = Box::new(Report::from_json(&json)?);
        let (gist, basis) = (Arc::new(Gist::of(&report)), Basis::whole(json.as_slice()));
        Ok(Self { payload: json, form: Form::Json, says: Says::All(report), gist, basis })
    }

    /// Reads the payload of an envelope that came at `now` (ms).
    ///
    /// # Errors
    /// [`Reject::NeedFull`] where it cannot be read here and now but the same report could in
    /// another form, otherwise what is wrong with it.
    pub fn read(envelope: &Envelope<'_>, bases: &Bases, readers: &Readers, now: i64) -> Result<Self, Reject> {
        let kept = match envelope.header.encoding {
            Encoding::Delta(tick) => Some(find(envelope, tick, bases, readers, now)?),
            _ => None,
        };
        let payload = envelope.payload.to_vec();
        if let Some(kept) = &kept
            && let Some(counts) = kept.read(&payload)
        {
            let (form, gist) = (Form::Delta(kept.no), Arc::clone(&kept.gist));
            let says = Says::Moved(Box::new(counts), Arc::clone(kept));
            return Ok(Self { payload, form, says, gist, basis: Basis::Old });
        }
        let base = kept.as_ref().map(|kept| text(kept, readers)).transpose()?;
        let json =
            decode(&envelope.header.encoding, envelope.payload, base.as_ref()).map_err(
                |error| match error {
                    PayloadError::NoBase | PayloadError::Encoding(_) => Reject::NeedFull,
                    PayloadError::Delta(DeltaError::OtherBase) => Reject::NeedFull,
                    broken => Reject::Payload(ReportError::Json(broken.to_string())),
                },
            )?;
        let report = Box::new(Report::from_json(&json).map_err(Reject::Payload)?);
        let gist = Arc::new(Gist::of(&report));
        let form = match (&kept, &envelope.header.encoding) {
            (Some(kept), _) => Form::Delta(kept.no),
            (None, Encoding::Json) => Form::Json,
            (None, _) => Form::Deflated,
        };
        let basis = match kept.zip(base) {
            Some((kept, base)) => Basis::edited(kept, &base, &payload, &report),
            None => Basis::whole(json.into_owned()),
        };
        Ok(Self { payload, form, says: Says::All(report), gist, basis })
    }
}

impl Basis {
    fn whole(json: impl Into<Box<[u8]>>) -> Self {
        Self::Whole(Moving::of(&Base::new(json)))
    }

    fn edited(kept: Arc<Kept>, base: &Base, delta: &[u8], report: &Report) -> Self {
        let edits = kept.moving.as_ref().and_then(|moving| moving.edits(base, delta, &Counts::of(report)));
        edits.map_or(Self::Old, |edits| Self::Edited(kept, edits))
    }
}

/// The text of a report that others are the difference to.
fn text(kept: &Kept, readers: &Readers) -> Result<Base, Reject> {
    readers.read(|db| reports::text(db, kept.no)).map(Base::new).map_err(unreadable)
}

/// What becomes of a report whose base cannot be read: where that will not do later either, it must come whole.
fn unreadable(error: StoreError) -> Reject {
    log::error!("database: reading a base: {error}");
    if matches!(error, StoreError::Broken(_)) { Reject::NeedFull } else { Reject::Unavailable }
}

fn find(
    envelope: &Envelope<'_>,
    tick: u64,
    bases: &Bases,
    readers: &Readers,
    now: i64,
) -> Result<Arc<Kept>, Reject> {
    let (agent, boot) = (envelope.header.agent, envelope.header.boot);
    if let Some(kept) = bases.get(agent, boot, tick) {
        return if kept.is_fresh(now) { Ok(kept) } else { Err(Reject::NeedFull) };
    }
    // As after a start: read once, then it is at hand.
    let found = readers.read(|db| reports::base(db, agent, boot, tick)).map_err(unreadable)?;
    let kept = Arc::new(found.filter(|kept| kept.is_fresh(now)).ok_or(Reject::NeedFull)?);
    bases.put([(agent, Arc::clone(&kept))], now);
    Ok(kept)
}
