//! Collects what the exports are made of, from memory and by a connection that reads, and answers with them.

use std::sync::PoisonError;

use gate::Answer;

use super::links::Links;
use super::metrics::{self, Own, Parts};
use super::picture::{Picture, Wanted};
use super::{Format, csv, dot, mermaid, netjson, prometheus};
use crate::error::StoreError;
use crate::handle::Context;
use crate::process::Process;
use crate::reply;
use crate::store::{self, alarms, outbox};
use crate::view::agent::{self, AgentList};
use crate::view::map;

/// The map in a format; `known` is the tag of what the client has.
///
/// # Errors
/// What the database says.
pub fn map(
    context: &Context,
    format: Format,
    wanted: &Wanted,
    known: Option<&str>,
) -> Result<Answer, StoreError> {
    let (tag, picture) = match wanted.at {
        Some(at) => {
            let structure = context.readers.read(|db| map::structure_at(db, at))?;
            (format!("{at}-{}", structure.event.unwrap_or(0)), Picture::from(structure))
        }
        None => {
            let state = context.atlas.state();
            let tag = format!("{:x}-{}-{}", context.started, state.version(), state.revision());
            if reply::has(known, &tag) {
                return Ok(reply::not_modified(&tag));
            }
            let view = state.view(false);
            drop(state);
            (tag, Picture::from(view))
        }
    };
    let picture = wanted.of(picture);
    let (text, media_type, disposition) = match format {
        Format::NetJson => {
            (netjson::graph(&picture), "application/json", "inline; filename=\"kattila.netjson\"")
        }
        Format::Dot => (dot::graph(&picture), dot::MEDIA_TYPE, "attachment; filename=\"kattila.dot\""),
        Format::Mermaid => {
            (mermaid::graph(&picture), mermaid::MEDIA_TYPE, "inline; filename=\"kattila.mmd\"")
        }
        Format::Links => {
            (csv::links(&picture), csv::MEDIA_TYPE, "attachment; filename=\"kattila-links.csv\"")
        }
    };
    if text.len() > context.answer_max {
        let size = format!("the map is {} MiB in this format", text.len() >> 20);
        return Ok(reply::problem(
            507,
            "too_large",
            &size,
            "ask for a part of it: ?layer=wireguard, ?state=down",
        ));
    }
    Ok(file(text, media_type, disposition).with_header("ETag", &format!("\"{tag}\"")))
}

/// The agents as a table.
#[must_use]
pub fn agents_csv(context: &Context, now: i64) -> Answer {
    let text = csv::agents(&agents(context, now));
    file(text, csv::MEDIA_TYPE, "attachment; filename=\"kattila-agents.csv\"")
}

fn file(text: String, media_type: &str, disposition: &str) -> Answer {
    Answer::new(200, media_type, text)
        .with_header("Content-Disposition", disposition)
        .with_header("Cache-Control", "no-cache")
}

/// The metrics that were asked for.
///
/// # Errors
/// What the database says.
pub fn metrics(context: &Context, parts: Parts, now: i64) -> Result<Answer, StoreError> {
    let of_links = parts.links || parts.wireguard;
    let agents = (parts.fleet || of_links).then(|| agents(context, now));
    let alarms = parts.alarms.then(|| context.readers.read(alarms::counts_by_code)).transpose()?;
    let own = parts.manager.then(|| own(context)).transpose()?;
    let links = agents.as_ref().filter(|_| of_links).map(|agents| Links::new(&context.atlas, agents));
    let fleet = agents.as_ref().filter(|_| parts.fleet);
    let text =
        metrics::render(context.answer_max, parts, fleet, links.as_ref(), alarms.as_deref(), own.as_ref());
    Ok(Answer::new(200, prometheus::MEDIA_TYPE, text).with_header("Cache-Control", "no-store"))
}

fn agents(context: &Context, now: i64) -> AgentList {
    agent::list(&context.fleet.read().unwrap_or_else(PoisonError::into_inner), now)
}

fn own(context: &Context) -> Result<Own, StoreError> {
    let psk = context.psk_health.read().unwrap_or_else(PoisonError::into_inner).failure.is_none();
    Ok(Own {
        started: context.started,
        writer: context.writer.health(),
        queue: context.writer.waiting(),
        database_bytes: store::sizes(&context.config.database),
        refused: context.refusals.counts(),
        gate: context.gate.get().map(|counters| counters.snapshot()).unwrap_or_default(),
        process: Process::read(),
        psk_readable: psk,
        notifications: context.readers.read(outbox::waiting)?,
    })
}
