//! The built agent against a manager that each test makes up: what goes over the wire, and what
//! the agent does with every kind of answer.

#![expect(clippy::unwrap_used, reason = "this is test code")]

mod commands;
mod delivery;
mod endpoint;
mod fake;
mod relay;
