//! A report's payload as it came -> what it says. A difference is read with the report that it is to.

use std::sync::Arc;

use proto::delta::DeltaError;
use proto::envelope::{Encoding, Envelope, PayloadError, decode};
use proto::report::{Report, ReportError};

use crate::bases::{Bases, Kept};
use crate::error::Reject;
use crate::store::{Readers, reports};

/// What came in a report's payload.
#[derive(Debug)]
pub struct Content {
    /// The payload as it came, which is how it is stored.
    pub payload: Vec<u8>,
    /// How it is written.
    pub form: Form,
    /// What it says.
    pub report: Box<Report>,
}

/// How a stored payload is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// JSON as it is.
    Json,
    /// Deflated; this is the JSON.
    Deflated(Vec<u8>),
    /// The difference to the report of this number in the database.
    Delta(i64),
}

impl Content {
    /// A report that came as JSON.
    ///
    /// # Errors
    /// When it is not of a report's shape.
    pub fn from_json(json: Vec<u8>) -> Result<Self, ReportError> {
        Ok(Self { report: Box::new(Report::from_json(&json)?), payload: json, form: Form::Json })
    }

    /// Reads the payload of an envelope that came at `now` (ms).
    ///
    /// # Errors
    /// [`Reject::NeedFull`] where it cannot be read here and now but the same report could in
    /// another form, otherwise what is wrong with it.
    pub fn read(envelope: &Envelope<'_>, bases: &Bases, readers: &Readers, now: i64) -> Result<Self, Reject> {
        let base = match envelope.header.encoding {
            Encoding::Delta(tick) => Some(find(envelope, tick, bases, readers, now)?),
            _ => None,
        };
        let json = decode(&envelope.header.encoding, envelope.payload, base.as_ref().map(|kept| &kept.base))
            .map_err(|error| match error {
                PayloadError::NoBase | PayloadError::Encoding(_) => Reject::NeedFull,
                PayloadError::Delta(DeltaError::OtherBase) => Reject::NeedFull,
                broken => Reject::Payload(ReportError::Json(broken.to_string())),
            })?;
        let report = Box::new(Report::from_json(&json).map_err(Reject::Payload)?);
        let form = match (base, &envelope.header.encoding) {
            (Some(kept), _) => Form::Delta(kept.no),
            (None, Encoding::Json) => Form::Json,
            (None, _) => Form::Deflated(json.into_owned()),
        };
        Ok(Self { payload: envelope.payload.to_vec(), form, report })
    }
}

impl Form {
    /// The JSON of a payload of this form that is no difference to another report, so that others may
    /// be one to it.
    #[must_use]
    pub fn whole(self, payload: Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Self::Json => Some(payload),
            Self::Deflated(json) => Some(json),
            Self::Delta(_) => None,
        }
    }
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
    let found = readers.read(|db| reports::base(db, agent, boot, tick)).map_err(|error| {
        log::error!("database: reading a base: {error}");
        Reject::Unavailable
    })?;
    let kept = Arc::new(found.filter(|kept| kept.is_fresh(now)).ok_or(Reject::NeedFull)?);
    bases.put([(agent, Arc::clone(&kept))], now);
    Ok(kept)
}
