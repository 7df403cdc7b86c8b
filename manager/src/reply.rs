//! What was decided -> an HTTP answer.

use gate::Answer;
use serde::Serialize;

use crate::error::Reject;
use crate::request::Unserved;

/// A signed answer.
#[must_use]
pub fn signed(status: u16, bytes: Vec<u8>) -> Answer {
    Answer::bare(status, bytes)
}

/// A value as JSON, not to be kept by caches.
#[must_use]
pub fn json(status: u16, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            Answer::json(status, body).with_header("Cache-Control", "no-store")
        }
        Err(error) => {
            log::error!("answer: {error}");
            problem(500, "internal", "the answer could not be written", "tell the log's line to the authors")
        }
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    error: Fields<'a>,
}

#[derive(Serialize)]
struct Fields<'a> {
    code: &'a str,
    message: &'a str,
    hint: &'a str,
}

/// A value as JSON under a tag, for clients that ask again and again.
#[must_use]
pub fn tagged(tag: &str, value: &impl Serialize) -> Answer {
    tagged_json(tag, serde_json::to_vec(value).unwrap_or_default())
}

/// JSON that is already written, under a tag.
#[must_use]
pub fn tagged_json(tag: &str, mut body: Vec<u8>) -> Answer {
    body.push(b'\n');
    Answer::json(200, body).with_header("ETag", &quoted(tag)).with_header("Cache-Control", "no-cache")
}

/// Nothing changed since the client last asked.
#[must_use]
pub fn not_modified(tag: &str) -> Answer {
    Answer::empty(304).with_header("ETag", &quoted(tag)).with_header("Cache-Control", "no-cache")
}

/// Whether the client has what `tag` stands for already (RFC 9110 13.1.2).
#[must_use]
pub fn has(if_none_match: Option<&str>, tag: &str) -> bool {
    let tag = quoted(tag);
    let listed = |list: &str| list.split(',').any(|item| item.trim().trim_start_matches("W/") == tag);
    if_none_match.is_some_and(|list| list.trim() == "*" || listed(list))
}

fn quoted(tag: &str) -> String {
    format!("\"{tag}\"")
}

/// An error in the one shape that all errors have.
#[must_use]
pub fn problem(status: u16, code: &str, message: &str, hint: &str) -> Answer {
    json(status, &Problem { error: Fields { code, message, hint } })
}

/// An answer with what keeps a browser from taking it for anything else.
#[must_use]
pub fn guarded(answer: Answer) -> Answer {
    if answer.header("Content-Security-Policy").is_some() {
        return answer;
    }
    answer
        .with_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        .with_header("X-Content-Type-Options", "nosniff")
        .with_header("Referrer-Policy", "no-referrer")
        .with_header("Cross-Origin-Resource-Policy", "same-origin")
}

/// A refusal that cannot be signed, as its sender did not prove to hold a PSK.
#[must_use]
pub fn reject(reject: &Reject) -> Answer {
    let answer = problem(reject.status(), reject.code(), &reject.to_string(), reject.hint());
    match reject {
        Reject::Denied(denied) if denied.status() == 401 => {
            answer.with_header("WWW-Authenticate", "Bearer realm=\"kattila\"")
        }
        _ => answer,
    }
}

/// The store cannot be read now.
#[must_use]
pub fn unreadable(error: &crate::error::StoreError) -> Answer {
    log::error!("database: {error}");
    problem(503, "unavailable", "the database cannot be read now", "GET /status/healthcheck says more")
}

/// A request that leads nowhere.
#[must_use]
pub fn unserved(unserved: &Unserved) -> Answer {
    match unserved {
        Unserved::NotFound => problem(404, "not_found", "there is nothing here", "see / and the README"),
        Unserved::Method(allowed) => {
            problem(405, "method_not_allowed", &format!("this path takes {allowed} only"), "see the README")
                .with_header("Allow", allowed)
        }
        Unserved::BadId => problem(
            404,
            "bad_agent_id",
            "this is no agent id: it has 32 lowercase hexadecimal digits",
            "GET /status/agents lists the agents",
        ),
        Unserved::Parameter(bad) => {
            problem(400, "bad_parameter", &format!("{} must be {}", bad.name, bad.allowed), "see the README")
        }
        Unserved::Denied(denied) => reject(&Reject::Denied(denied.clone())),
    }
}

/// The gate's own refusals, in the same shape.
#[must_use]
pub fn refusal(status: u16, reason: &'static str) -> Answer {
    let code = match status {
        408 => "too_slow",
        411 => "length_required",
        413 => "too_large",
        431 => "headers_too_large",
        500 => "internal",
        503 => "busy",
        505 => "http_version",
        _ => "bad_request",
    };
    problem(status, code, reason, "see the limits in the README")
}
